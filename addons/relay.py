# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""The middle of a streamed answer: piece after piece goes from the provider to the client, and nothing else happens."""

from collections.abc import Callable

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.conduct import Conduct, Relayed
from addons.lane_provider import AnswerRead, ProviderSide
from addons.request_reading import chunk

type Passed = bytes | events.Event


class Relay:
    """Relays pieces of one answer, from when its first piece went out until anything else is to be done about it."""

    __slots__ = ("_chunked", "_conduct", "_otherwise", "_side", "_stream_id", "provider")

    def __init__(
        self, side: ProviderSide, provider: Connection, conduct: Conduct, *, stream_id: int, chunked: bool, otherwise: Callable[[bytes], Passed]
    ) -> None:
        """`otherwise` relays a piece that is not of the middle."""
        self.provider, self._side, self._conduct = provider, side, conduct
        self._stream_id, self._chunked, self._otherwise = stream_id, chunked, otherwise

    def pass_on(self, data: bytes) -> Passed:
        """Read what the provider sent; return what goes to the client at once, or an event to handle where there is more to do."""
        fault = self._side.feed(data)
        answer = self._side.answer
        if fault is not None or answer.complete:
            return AnswerRead(fault)
        piece = answer.take_body()
        if not piece:
            return b""
        conduct = self._conduct
        if not conduct.relay_middle(piece):
            return self._otherwise(piece)
        if conduct.wants_extension:
            return Relayed(self._stream_id, piece)
        return chunk(piece) if self._chunked else piece
