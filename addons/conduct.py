# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""What a stream asks of our record of its request, and the events and hooks that pass between them."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from mitmproxy import http
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http._base import HttpEvent

if TYPE_CHECKING:
    from addons.streams import GatewayStream

CONDUCT = "level5"
BODY = "body"  # the deadline of a request's body
END = "end"  # that of the end of an answer which is told and charged

# The ids of clients that do not take what is written to them. Nothing is begun for them meanwhile: who asks without reading must not fill our memory.
slow_clients: set[str] = set()


class Middle(Enum):
    """What `Conduct.relay_middle` has made of a piece of a streamed answer."""

    OUT = auto()  # it was metered, and goes out as it is
    OUT_AND_EXTEND = auto()  # so does this one, and the hold does not cover what has been used
    UNDECIDED = auto()  # nothing was done: `relay` has to decide about it


class Conduct(Protocol):
    """What a stream asks of our record of the request it carries. Nothing here raises."""

    stream: "GatewayStream | None"
    unsendable: bool  # the client has left: the request must not leave any more
    wants_settlement: bool  # the terminal event is held back until the charge is known
    wants_extension: bool  # the hold does not cover what has been used
    cut_message: bytes | None  # the stream ends here, with this as its last words
    repeatable: bool  # a failure now may be followed by another attempt
    repeats: bool  # the request has been made ready to leave again
    timed_out: str | None  # the deadline that has passed in the present attempt

    def body_grows(self, size: int) -> http.Response | None:
        """Count a piece of the request's body; an answer refuses the rest of it."""

    def body_overdue(self) -> http.Response:
        """Return our answer to a request whose body does not come."""

    def sent(self) -> None:
        """The request is leaving for the provider."""

    def relay(self, data: bytes) -> bytes:
        """Meter a piece of a streamed answer and return what may go out now."""

    def relay_middle(self, data: bytes) -> Middle:
        """Meter a piece of a streamed answer, if it goes out as it is."""

    def observe(self, data: bytes) -> None:
        """Meter a piece of an answer that is kept back whole."""

    def flush(self) -> bytes:
        """The answer is over: return what was kept back in it."""

    def release(self) -> bytes:
        """The charge is known, or took too long: return what was held back for it."""

    def ended_whole(self) -> bool:
        """Tell whether the answer's end was its own and not a broken connection's."""

    def reads_on(self) -> bool:
        """The client has left: tell whether the answer is to be read to its end all the same."""

    def spill(self, flow: http.HTTPFlow) -> bool:
        """An answer has become too large to keep back: make its head ready to leave. False where no part of it may leave before the whole is known."""

    def failure(self, status: int) -> http.Response:
        """Return our answer to a failure of this status (400, 413, 502)."""


@dataclass
class Interrupt(events.Event):
    """Something outside the connections (a deadline, the drain) concerns one stream."""

    stream: "GatewayStream"
    reason: str


@dataclass
class Begun(events.Event):
    """A request's head was read; the stream is to be told of it."""

    request: http.Request
    length: int | None
    closes: bool


@dataclass
class GoOn(events.Event):
    """Something of the client's is in the buffer."""


@dataclass
class Drained(events.Event):
    """The client takes again what is written to it: requests that have waited for that may begin."""


@dataclass
class BodyRefused(events.Event):
    """The body of a request has become too large; this is the answer."""

    refusal: http.Response


@dataclass
class Relayed(HttpEvent):
    """A piece of a streamed answer was metered already; `ready` of it may go out now, and there is more to do than that."""

    ready: bytes


@dataclass
class Level5ExtendHook(commands.StartHook):
    """A stream needs a larger hold before it goes on."""

    name = "level5_extend"
    flow: http.HTTPFlow


@dataclass
class Level5RepeatHook(commands.StartHook):
    """An attempt has failed before anything of its answer went out; `Conduct.repeats` then tells whether there is another."""

    name = "level5_repeat"
    flow: http.HTTPFlow


@dataclass
class Level5SettleHook(commands.StartHook):
    """A stream's usage is known; its terminal event waits until this has run."""

    name = "level5_settle"
    flow: http.HTTPFlow
