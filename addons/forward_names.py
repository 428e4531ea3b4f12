"""Names that are to be tunnelled, turned into addresses: looked up once, checked, and dialled by what was checked."""

import asyncio
import socket

from addons.forward import Place, is_public


class NotPublic(Exception):
    """A name leads to an address that is not on the public internet."""


async def resolve_public(place: Place, *, seconds_max: float) -> Place:
    """Return the address of a place. Every one that its name has must be public, or none is used.

    Raises:
        NotPublic: the name leads into this machine, its network or its cloud's.
        OSError, TimeoutError: it cannot be looked up.
    """
    host, port = place
    async with asyncio.timeout(seconds_max):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(is_public(address) for address in addresses):
        raise NotPublic(host)
    return addresses[0], port
