"""HTTP as the control API speaks it: also what is no HTTP at all is answered as JSON."""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

NO_HTTP: Final = b'{"error":"This is not a request that HTTP/1.1 allows: look at its head, and at its content-length."}'
ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n%b"
    % (len(NO_HTTP), NO_HTTP)
)


class ControlProtocol(HttpToolsProtocol):
    """uvicorn's own, but for that answer."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # the parser's own words tell a client little
        """Refuse what cannot be read as a request, and close the connection: nobody knows where the next one would begin."""
        self.transport.write(ANSWER)
        self.transport.close()
