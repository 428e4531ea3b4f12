# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""A stream whose hooks are called by others (`short_way`): how it waits for one, and how it goes on by itself from there."""

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import HttpStream

_SOMETHING = layer.Paused(commands.Command(), iter(()))  # type: ignore[arg-type]  # nothing comes of it


class ShortStream(HttpStream):
    """A stream that can be put into a state, and taken up in it."""

    @property
    def is_waiting(self) -> bool:
        """Whether a hook is awaited. What the stream is told meanwhile waits."""
        return self._paused is not None

    @property
    def is_undisturbed(self) -> bool:
        """Whether nothing waits."""
        return not self._paused_event_queue

    def wait(self) -> None:
        """A hook is awaited."""
        self._paused = _SOMETHING

    def go_on(self) -> None:
        """It has ended, and nothing has waited."""
        self._paused = None

    def wait_for(self, event: events.Event) -> None:
        """Take up the long way at the hook that `event` leads to, which was called already."""
        generator = self._handle_event(event)
        self._paused = layer.Paused(next(generator), generator)

    def awaited(self) -> events.HookCompleted:
        """Return the event that ends this waiting."""
        if self._paused is None or not isinstance(self._paused.command, commands.StartHook):
            raise RuntimeError("no hook is awaited")
        return events.HookCompleted(self._paused.command)
