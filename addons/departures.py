"""What leaves on the short way leaves at the end of the loop's turn, together with all else that does.

Each write wakes whoever reads at the other end, unless the write before it just has; that is the dearest thing that a write does. Done one by one, with the
work for the next between them, nearly all of them wake somebody; done together, hardly one does.
"""

import asyncio

from telemetry.logs import log


class Departures:
    """Pieces for connections, in the order they were given. Whoever writes to one of these otherwise, or closes one, lets them `leave` first."""

    def __init__(self) -> None:
        self._pieces: list[tuple[asyncio.WriteTransport, bytes]] = []

    def add(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Let a piece leave with the present turn. Where its connection has closed by then, nobody is there to read it."""
        if not self._pieces:
            asyncio.get_running_loop().call_soon(self.leave)
        self._pieces.append((transport, data))

    def leave(self) -> None:
        """Write what waits here."""
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            for transport, data in pieces:
                if transport.is_closing():
                    continue
                try:
                    transport.write(data)
                except Exception:  # of this connection alone: the others' pieces must leave all the same
                    log.error("departure_failed", exc_info=True)
                    transport.abort()
