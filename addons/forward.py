"""What the forward door lets through: which hosts a client may name, whose token it carries, what it is told otherwise. Pure.

A client names a host; nothing it names is ever dialled. A provider's name leads to the configured base URL, and a host that
the operator has listed is resolved here and dialled by the address that was checked.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from addons.authority import OWN_PLACES
from addons.upstream import Provider

OUR_TOKENS_BEGIN = "l5_"
TLS_PORT = 443
_AUTHORITY = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([1-9][0-9]{0,4})")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

type Place = tuple[str, int]  # host as it is written without brackets, port


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """What one CONNECT has opened. `bases` holds the providers at its host; without any it is passed on unread, to `address`."""

    host: str
    port: int
    bases: Mapping[str, str]
    token_text: str | None = field(default=None, repr=False)
    address: Place | None = None

    @property
    def authorities(self) -> tuple[str, ...]:
        """How a request inside may name its host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{host}:{self.port}", host) if self.port == TLS_PORT else (f"{host}:{self.port}",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a CONNECT is refused, in words for whoever set the proxy up. `challenge` asks for credentials."""

    status: int
    text: str
    challenge: bool = False


class Map:
    """The hosts that the door knows: providers under their own names and their configured addresses, and listed hosts."""

    def __init__(self, providers: Iterable[Provider], tunnelled: Iterable[str]) -> None:
        places: dict[Place, dict[str, str]] = {}
        for provider in providers:
            host, base = OWN_PLACES[provider.name]
            places.setdefault((host, TLS_PORT), {})[provider.name] = base
            places.setdefault((provider.host.lower(), provider.port), {})[provider.name] = provider.base_path
        self._places: Mapping[Place, Mapping[str, str]] = {place: MappingProxyType(bases) for place, bases in places.items()}
        self._tunnelled = frozenset(_read_listed(name) for name in tunnelled)

    def bases(self, place: Place) -> Mapping[str, str] | None:
        """Return the providers at a place, None where there are none."""
        return self._places.get(place)

    def is_tunnelled(self, place: Place) -> bool:
        """Tell whether the operator has listed a place to be passed on unread."""
        return place in self._tunnelled and place not in self._places

    def not_allowed(self) -> Refusal:
        """403 for any other host: the text says what is allowed. Where the operator's own addresses are is nobody's business."""
        own = dict.fromkeys((host, TLS_PORT) for host, _ in OWN_PLACES.values())
        allowed = ", ".join(_write(place) for place in (*own, *sorted(self._tunnelled - own.keys())))
        text = f"This proxy passes requests on to LLM providers only. Allowed: {allowed}. The operator may list further hosts in forward.tunnel."
        return Refusal(status=403, text=text)


def read_place(authority: str) -> Place | None:
    """Return host and port of a CONNECT's target, in lower case; None where it is not plainly written."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None or int(found[2]) > 65535:
        return None
    host = found[1].lower()
    if host.startswith("["):
        try:
            host = str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            return None
    return host, int(found[2])


def _read_listed(name: str) -> Place:
    host, _, port = name.partition(":")
    return host.lower(), int(port or TLS_PORT)


def _write(place: Place) -> str:
    host = f"[{place[0]}]" if ":" in place[0] else place[0]
    return host if place[1] == TLS_PORT else f"{host}:{place[1]}"


def read_credentials(value: str) -> str | None:
    """Return the api_token in `Proxy-Authorization`: user or password of Basic, or Bearer. None where nothing looks like one."""
    scheme, _, credentials = value.strip().partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        candidates = [credentials]
    elif scheme.lower() == "basic":
        try:
            candidates = base64.b64decode(credentials, validate=True).decode("ascii").split(":", 1)
        except (binascii.Error, ValueError):
            return None
    else:
        return None
    return next((text for text in candidates if text.startswith(OUR_TOKENS_BEGIN)), None)


def is_public(address: str) -> bool:
    """Tell whether an address may be dialled for a tunnel: on the public internet, in whichever way it is written down.

    Loopback, private, shared, link-local (where clouds keep their metadata), multicast and reserved ones are not, nor are IPv6
    addresses that stand for such an IPv4 address.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return all(_is_public(one) for one in (found, *_embedded(found)))


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address.is_site_local or (address.is_reserved and address not in _NAT64)):
        return False
    return address.is_global and not address.is_multicast


def _embedded(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]
