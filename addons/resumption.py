"""TLS to providers that takes up where an earlier connection left: one round trip less, and no certificate is checked twice.

asyncio has no argument for a session, so the context itself offers the one that its server gave last. A session is kept under the
name that its certificate was verified for, and offered to nobody else.
"""

import ssl
from typing import Any, Final, Self, override

SESSIONS_MAX: Final = 256


class ResumingContext(ssl.SSLContext):
    """A client's context that verifies servers, and knows the session of each."""

    sessions: dict[str, ssl.SSLSession]

    def __new__(cls) -> Self:
        """Make a context that requires a certificate and compares its name."""
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context.sessions = {}
        return context

    @override
    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool = False, server_hostname: str | bytes | None = None, session: Any = None
    ) -> ssl.SSLObject:
        known = session or self.sessions.get(str(server_hostname))
        return super().wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname, session=known)

    def remember(self, host: str, connection: ssl.SSLObject) -> None:
        """Keep what `connection` may be resumed with. Ask when an answer has been read: servers send it after the handshake."""
        session = connection.session
        if session is None or not (session.has_ticket or session.id):
            return
        if len(self.sessions) >= SESSIONS_MAX and host not in self.sessions:
            self.sessions.pop(next(iter(self.sessions)))
        self.sessions[host] = session

    def forget(self, host: str) -> None:
        """Begin anew with a server: the handshake failed, and its session may be why."""
        self.sessions.pop(host, None)


def make_context(authorities: str) -> ResumingContext:
    """Return a context that trusts the authorities in a file, and them alone."""
    context = ResumingContext()
    context.load_verify_locations(cafile=authorities)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # private authorities often lack what only strictness asks for
    context.set_alpn_protocols(["http/1.1"])
    return context
