"""Everything that is not the proxy's goes to the control API, with the caller's address told unforgeably."""

from urllib.parse import urlsplit

from mitmproxy import http

from addons.headers import strip_hop_by_hop
from metering.classify import ControlRoute


class ControlRelay:
    """Aims requests at the control API of this machine."""

    def __init__(self, address: str, *, peer_key: str) -> None:
        parts = urlsplit(address)
        self._host, self._port, self._peer_key = parts.hostname or "127.0.0.1", parts.port or 80, peer_key

    @property
    def address(self) -> tuple[str, int]:
        """Where the control API is dialled."""
        return self._host, self._port

    def aim(self, flow: http.HTTPFlow, route: ControlRoute) -> None:
        """Turn a request into one for the control API; the caller's own words on who it is are removed."""
        request = flow.request
        request.data.scheme, request.data.host, request.data.port, request.data.authority = b"http", self._host, self._port, b""
        request.path = route.path + (f"?{route.query}" if route.query else "")
        request.http_version = "HTTP/1.1"
        strip_hop_by_hop(request.headers)
        if not request.headers.get("host"):
            request.headers["Host"] = f"{self._host}:{self._port}"
        peer = flow.client_conn.peername
        request.headers["X-Level5-Peer"] = peer[0] if peer else ""
        request.headers["X-Level5-Peer-Key"] = self._peer_key
