"""What is wrong with one provider. All of it is off at first, and switched by tests while the cluster runs."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, get_args

type UnknownBefore = Literal["error", "empty", "ignore"]


class BadFault(Exception):
    """There is no such switch, or it does not take this value."""


@dataclass(slots=True, kw_only=True)
class Faults:
    """The switches of one provider.

    `http` and `always` hold words: a status such as "429" or "503"; "cut" (half an answer, then the end), "reset" (no answer
    at all), "hang" (nothing for `hang_seconds`), "bad_json", "empty", or "error:-32019" for an error of that code without
    data; "" is a healthy answer. The words of `http` are used up, one for each request that `only` lets through.
    """

    # Transactions
    hidden: set[str] = field(default_factory=set)  # signatures that it does not know at all
    unreadable: set[str] = field(default_factory=set)  # listed, but getTransaction says null
    swapped: dict[str, str] = field(default_factory=dict)  # signature: the one whose wire bytes it gives, or bytes in base64
    fault_lies: dict[str, Any] = field(default_factory=dict)  # signature: the err it claims; null claims success
    gain_lies: dict[str, int] = field(default_factory=dict)  # signature: added to what it says accounts held after it, where they gained
    meta_lies: dict[str, dict[str, Any]] = field(default_factory=dict)  # signature: fields of its metadata that it claims
    pruned_below: int = 0  # slots below are gone
    reversed_in_slot: bool = False  # another order within a slot than the other providers have
    # Accounts
    balance_lies: dict[str, int] = field(default_factory=dict)  # token account: added to the amount it claims
    account_lies: dict[str, str | None] = field(default_factory=dict)  # address: data in base64 that it claims; null: no account
    # Slots
    lag: int = 0  # slots behind the others
    stuck_at: int | None = None  # the slot that it does not leave
    backwards: int = 0  # every second answer is that many slots older
    # Paging
    unknown_before: UnknownBefore = "error"  # a `before` or `until` it does not know: -32020, no rows, or as if not given
    page_max: int = 1000
    # Transport
    http: list[str] = field(default_factory=list)
    always: str = ""
    only: set[str] = field(default_factory=set)  # methods that `http` and `always` are for; none given: all
    retry_after: int | None = 1
    hang_seconds: float = 30.0
    genesis: str | None = None  # the genesis hash it claims
    # WebSocket
    socket_silent: bool = False
    socket_refused: bool = False
    socket_copies: int = 1  # how often each notification is sent
    socket_late_seconds: float = 0.0

    def change(self, switches: Mapping[str, Any]) -> None:
        """Set the switches that are named, all or none.

        Raises:
            BadFault: a name or a value is not one of ours.
        """
        read = {name: _read_switch(name, value) for name, value in switches.items()}
        for name, value in read.items():
            setattr(self, name, value)

    def clear(self) -> None:
        """Switch everything off."""
        for name, value in _defaults().items():
            setattr(self, name, value)

    def as_json(self) -> dict[str, Any]:
        """Return all switches."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: sorted(value) if isinstance(value, set) else value for name, value in values.items()}

    def next_word(self, methods: set[str]) -> str:
        """Return the word for a request for these methods, and use it up."""
        if self.only and not self.only & methods:
            return ""
        return self.http.pop(0) if self.http else self.always


def _defaults() -> dict[str, Any]:
    made = {one.name: one.default_factory() for one in fields(Faults) if one.default_factory is not MISSING}
    return made | {one.name: one.default for one in fields(Faults) if one.default is not MISSING}


def _read_switch(name: str, value: object) -> object:
    defaults = _defaults()
    if name not in defaults:
        raise BadFault(f"{name} is no switch; there are {', '.join(defaults)}")
    default = defaults[name]
    if name == "unknown_before":
        fits = value in get_args(UnknownBefore.__value__)
    elif name in ("stuck_at", "retry_after"):
        fits = value is None or type(value) is int
    elif name == "genesis":
        fits = value is None or isinstance(value, str)
    elif isinstance(default, set):
        fits = isinstance(value, list | set | tuple) and all(isinstance(one, str) for one in value)
        value = set(value) if isinstance(value, list | set | tuple) else value
    elif isinstance(default, float):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = type(value) is type(default)
    if not fits:
        raise BadFault(f"{name} does not take {value!r}")
    return value
