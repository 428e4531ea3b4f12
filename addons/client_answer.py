"""What of the present answer was sent to the lane's client, and how its body is framed."""

from mitmproxy import http

from addons.lane_heads import ends_with_connection, write_response_head
from addons.request_reading import chunk


class ClientAnswer:
    """One answer on its way to the client."""

    __slots__ = ("_head", "chunked", "done")

    def __init__(self) -> None:
        self._head: http.Response | None = None
        self.chunked = self.done = False

    def begin(self, response: http.Response) -> bytes:
        """Return the head that is to be sent now."""
        self._head = response
        self.chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
        return write_response_head(response)

    def frame(self, data: bytes) -> bytes:
        """Return a piece of the body as it is to be sent; not for empty ones."""
        return chunk(data) if self.chunked else data

    def end(self) -> bytes:
        """Return what is to be sent after the body."""
        self.done = True
        return chunk(b"") if self.chunked else b""

    @property
    def ends_connection(self) -> bool:
        """Whether the client learns, or was told, that the connection ends with this answer."""
        return self._head is None or ends_with_connection(self._head)
