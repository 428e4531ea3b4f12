"""Who is calling: the address that limits are counted by, found without believing what a caller can forge."""

import hmac
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import Request

PEER_HEADER = "x-level5-peer"
PEER_KEY_HEADER = "x-level5-peer-key"
FORWARDED_ADDRESSES_MAX = 32
UNKNOWN_NETWORK = "unknown"

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def read_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return the networks of the `trusted_proxies` setting.

    Raises:
        ValueError: a text is not a network.
    """
    return tuple(ip_network(text, strict=False) for text in texts)


def peer_address(request: Request, internal_key: str | None) -> Address | None:
    """Return the address of the connection: as the gateway hands it on, proven by the shared key, else the socket's."""
    handed_on, key = request.headers.get(PEER_HEADER), request.headers.get(PEER_KEY_HEADER)
    if internal_key and handed_on and key and hmac.compare_digest(key.encode("utf-8", "replace"), internal_key.encode()):
        return _parse(handed_on)
    return _parse(request.client.host) if request.client else None


def client_address(peer: Address | None, forwarded_for: Sequence[str], *, trusted: Sequence[Network]) -> Address | None:
    """Return the nearest address that is not a trusted proxy's, reading X-Forwarded-For from its end.

    Only what a trusted proxy appended is believed: the walk stops at the first address that is not trusted, or
    that is no address.
    """
    claimed = [part.strip() for line in forwarded_for for part in line.split(",")][-FORWARDED_ADDRESSES_MAX:]
    current = peer
    while current is not None and claimed and _is_trusted(current, trusted):
        following = _parse(claimed.pop())
        if following is None:
            break
        current = following
    return current


def limited_network(address: Address | None) -> str:
    """Return what one limit is counted for: an IPv4 address, or the /64 that one IPv6 customer has to itself."""
    if address is None:
        return UNKNOWN_NETWORK
    return str(address) if address.version == 4 else str(ip_network((address.packed, 64), strict=False))


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in trusted)


def _parse(text: str) -> Address | None:
    """Read an address as proxies write it: plain, in brackets, with a port, with a zone, or IPv4 inside IPv6."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
