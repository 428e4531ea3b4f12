# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""Who hears of an event, looked up once: mitmproxy asks every addon on every event, and then again whether it wants an update."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import fields
from typing import Any

from mitmproxy import addonmanager, hooks
from mitmproxy.addonmanager import AddonManager
from mitmproxy.exceptions import AddonHalt, OptionsError
from mitmproxy.flow import Flow

_NAMES: dict[type[hooks.Hook], tuple[str, ...]] = {}  # one entry for each kind of event

Handler = Callable[..., Awaitable[None] | None]


class HookTable(AddonManager):
    """An addon manager that keeps, for each event, the handlers of its addons in their order.

    A handler that is given to an addon after its event first came is not heard; adding and removing addons is.
    Addons that bring addons of their own may change these at any time: with such a one, and for synchronous
    events such as changed options, everything goes mitmproxy's own way.
    """

    def __init__(self, master: Any) -> None:
        self._rows: dict[str, tuple[Handler, ...] | None] = {}
        self._called: dict[tuple[type[hooks.Hook], ...], bool] = {}
        super().__init__(master)

    def add(self, *addons: object) -> None:
        super().add(*addons)
        self._forget()

    def remove(self, addon: object) -> None:
        super().remove(addon)
        self._forget()

    def clear(self) -> None:
        super().clear()
        self._forget()

    def _forget(self) -> None:
        self._rows.clear()
        self._called.clear()

    def handle_lifecycle(self, event: hooks.Hook) -> Coroutine[Any, Any, None]:
        return self.trigger_event(event) if self._row(hooks.UpdateHook) == () else self._trigger_both(event)

    async def _trigger_both(self, event: hooks.Hook) -> None:
        await self.trigger_event(event)
        subject = _subjects(event)[0]
        if isinstance(subject, Flow):
            await self.trigger_event(hooks.UpdateHook([subject]))

    def is_heard(self, event: hooks.Hook) -> bool:
        """Tell whether any addon may have a handler for this event, or wants to know of every change of a flow."""
        return self._row(event) != () or (self._row(hooks.UpdateHook) != () and isinstance(_subjects(event)[0], Flow))

    def trigger_now(self, event: hooks.Hook) -> Coroutine[Any, Any, None] | None:
        """Run an event's handlers in place, as far as none of them has to be awaited; return the rest, to be awaited, if there is any."""
        row = self._row(event)
        if row is None or self._row(hooks.UpdateHook) != ():
            return self.handle_lifecycle(event)
        return self._call(row, _subjects(event))

    def _call(self, row: tuple[Handler, ...], subjects: list[Any]) -> Coroutine[Any, Any, None] | None:
        for index, handler in enumerate(row):
            try:
                awaited = handler(*subjects)
            except AddonHalt:
                return None
            except OptionsError:
                raise
            except Exception as error:
                _report(error, "_call")
                continue
            if awaited is not None and hasattr(awaited, "__await__"):
                return self._go_on(awaited, row[index + 1 :], subjects)
        return None

    def calls_all(self, kinds: tuple[type[hooks.Hook], ...]) -> bool:
        """Tell whether `call` may be used for these events."""
        known = self._called.get(kinds)
        if known is None:
            known = self._called[kinds] = self._row(hooks.UpdateHook) == () and all(self._row(kind) is not None for kind in kinds)
        return known

    def call(self, kind: type[hooks.Hook], subject: object) -> Coroutine[Any, Any, None] | None:
        """Do what `trigger_now` does with an event that is about one thing, without making it. `calls_all` has looked for its handlers."""
        return self._call(self._rows[kind.name] or (), [subject])

    async def _go_on(self, awaited: Awaitable[None], handlers: tuple[Handler, ...], subjects: list[Any]) -> None:
        try:
            await awaited
        except AddonHalt:
            return
        except OptionsError:
            raise
        except Exception as error:
            _report(error, "_go_on")
        if handlers:
            await self._run(handlers, subjects)

    async def trigger_event(self, event: hooks.Hook) -> None:
        row = self._row(event)
        if row is None:
            await super().trigger_event(event)
        elif row:
            await self._run(row, _subjects(event))

    @staticmethod
    async def _run(handlers: tuple[Handler, ...], subjects: list[Any]) -> None:
        for handler in handlers:
            try:
                awaited = handler(*subjects)
                if awaited is not None and hasattr(awaited, "__await__"):
                    await awaited
            except AddonHalt:
                return
            except OptionsError:
                raise
            except Exception as error:
                _report(error, "_run")

    def _row(self, event: hooks.Hook | type[hooks.Hook]) -> tuple[Handler, ...] | None:
        """Return the handlers of an event, None where only mitmproxy's own way can find them."""
        name = event.name
        if name not in self._rows:
            self._rows[name] = self._find(event)
        return self._rows[name]

    def _find(self, event: hooks.Hook | type[hooks.Hook]) -> tuple[Handler, ...] | None:
        handlers: list[Handler] = []
        for addon in self.chain:
            if hasattr(addon, "addons"):
                return None
            handler = getattr(addon, event.name, None)
            if callable(handler):
                handlers.append(handler)
            elif handler and not inspect.ismodule(handler):
                return None  # mitmproxy's own way says what is wrong
        return tuple(handlers)


def _subjects(event: hooks.Hook) -> list[Any]:
    """Return what an event is about: `event.args()`, whose names mitmproxy looks up anew for each event."""
    kind = type(event)
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = tuple(field.name for field in fields(event))  # type: ignore[arg-type]  # every event is a dataclass
    return [getattr(event, name) for name in names]


def _report(error: Exception, caller: str) -> None:
    """Say what mitmproxy would: the addon's own part of the traceback, below the function that called it."""
    trace = addonmanager.cut_traceback(error.__traceback__, caller)
    addonmanager.logger.error(f"Addon error: {error}", exc_info=(type(error), error, trace))  # word for word
