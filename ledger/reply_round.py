"""What replies of Redis set off is written when all that came together have been heard.

One read brings the replies of many requests, and each of them lets a request leave for its provider or an answer for its client. Written one by one,
with the work for the next between them, each wakes its receiver anew, which is the dearest thing that a write does; written together, hardly one does.
"""

import asyncio

_put_off: list[tuple[asyncio.WriteTransport, bytes]] = []  # a process has one loop, and one round at a time
_is_open = False


def begin() -> None:
    """Replies are about to be heard."""
    global _is_open
    _is_open = True


def end() -> None:
    """All have been heard."""
    global _is_open
    _is_open = False
    catch_up()


def write(transport: asyncio.WriteTransport, data: bytes) -> None:
    """Write to a connection: now, or in a round of replies at its end. Whoever writes or closes otherwise calls `catch_up` first."""
    if _is_open:
        _put_off.append((transport, data))
    else:
        transport.write(data)


def catch_up() -> None:
    """Write what was put off."""
    if _put_off:
        pieces = _put_off.copy()
        _put_off.clear()
        for transport, data in pieces:
            if not transport.is_closing():
                transport.write(data)
