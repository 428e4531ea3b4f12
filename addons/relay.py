# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""The middle of a streamed answer: piece after piece goes from the provider to the client, and nothing else happens."""

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.conduct import Conduct, Middle, Relayed
from addons.lane_provider import AnswerRead, ProviderSide
from addons.request_reading import chunk
from addons.streams import GatewayStream

type Passed = bytes | events.Event


class Relay:
    """Relays one answer. What it returns goes to the client at once, or is an event to handle where there is more to do."""

    __slots__ = ("_answer", "_chunked", "_conduct", "_side", "_stream", "provider")

    def __init__(self, side: ProviderSide, provider: Connection, stream: GatewayStream, conduct: Conduct, *, chunked: bool) -> None:
        self.provider, self._side, self._answer, self._stream, self._conduct, self._chunked = provider, side, side.answer, stream, conduct, chunked

    def pass_on(self, data: bytes) -> Passed:
        """Read what the provider sent, after a piece went out and while nothing else has happened since."""
        piece = self._answer.read_piece(data)
        if not piece:
            return b"" if piece is not None else AnswerRead(self._answer.fault)
        made = self._conduct.relay_middle(piece)
        if made is Middle.OUT:
            return b"%x\r\n%s\r\n" % (len(piece), piece) if self._chunked else piece  # `chunk`, without a call for every event
        return self.pass_piece(piece) if made is Middle.UNDECIDED else Relayed(self._stream.stream_id, piece)

    def pass_piece(self, piece: bytes) -> Passed:
        """Relay a piece of the body, whatever it is and whatever has happened."""
        relayed = self._stream.relay_now(piece)
        if relayed is None:
            return self._side.put_back(piece)
        ready, is_all = relayed
        if not is_all:
            return Relayed(self._stream.stream_id, ready)
        return chunk(ready) if ready and self._chunked else ready
