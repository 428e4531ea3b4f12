"""What an issuer must have said before anybody is let in: the signature, the claims and the address. Nothing here asks the network."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt

# Signatures that only the issuer can make. None that a secret which we share with it could make, and not "none".
ALGORITHMS: Final[Mapping[str, str]] = {
    "RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
    "ES256": "EC", "ES384": "EC", "ES512": "EC", "EdDSA": "OKP",
}  # fmt: skip
CLOCK_SECONDS_MAX: Final = 60  # that the issuer's clock may differ from ours
REQUIRED_CLAIMS: Final = ["iss", "sub", "aud", "exp", "iat"]
ADDRESS_LENGTH_MAX: Final = 254

type Claims = Mapping[str, Any]


class NotBelieved(Exception):
    """What came from the issuer proves nothing; the text says why, for the log and the audit."""


class UnknownSigner(NotBelieved):
    """The token was signed with a key that the issuer has not published, as far as we have looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a token must be for: who made it, for whom, and for which sign-in."""

    issuer: str
    client_id: str
    nonce: str


def derived(secret: str, purpose: str) -> str:
    """Return a value that only the holder of `secret` can compute, another one for each purpose."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def read_id_token(text: str, keys: Sequence[Claims], expected: Expected) -> Claims:
    """Return the claims of an ID token that the issuer made for this sign-in, a moment ago.

    Raises:
        UnknownSigner: no key fits; the issuer may have newer ones.
        NotBelieved: anything else is wrong with it.
    """
    try:
        header = jwt.get_unverified_header(text)
        key = _signing_key(header, keys)
        claims: Claims = jwt.decode(
            text, key, algorithms=[str(header["alg"])], audience=expected.client_id, issuer=expected.issuer, leeway=CLOCK_SECONDS_MAX,
            options={"require": REQUIRED_CLAIMS},
        )  # fmt: skip
    except (jwt.PyJWTError, ValueError, TypeError) as error:  # the others for texts and keys that are no such things
        raise NotBelieved(f"ID token: {error}") from error
    _require_one_party(claims, expected.client_id)
    if not _same(claims.get("nonce"), expected.nonce):
        raise NotBelieved("ID token: the nonce is not that of this sign-in")
    return claims


def _signing_key(header: Mapping[str, Any], keys: Sequence[Claims]) -> jwt.PyJWK:
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise NotBelieved(f"ID token: the signature {str(algorithm)[:20]!r} is not one that we take")
    fitting = [key for key in keys if _fits(key, algorithm) and (key_id is None or key.get("kid") == key_id)]
    if len(fitting) != 1:
        raise UnknownSigner("ID token: signed with a key that the issuer does not publish")
    return jwt.PyJWK(dict(fitting[0]), algorithm=algorithm)


def _fits(key: Claims, algorithm: str) -> bool:
    return key.get("kty") == ALGORITHMS[algorithm] and key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm


def _require_one_party(claims: Claims, client_id: str) -> None:
    """Refuse a token that was made for others too, or on behalf of another client."""
    audience, party = claims["aud"], claims.get("azp")
    if party is not None and party != client_id:
        raise NotBelieved("ID token: made for another client")
    if isinstance(audience, list) and audience != [client_id] and party is None:
        raise NotBelieved("ID token: made for several clients")


def verified_address(claims: Claims) -> str:
    """Return the e-mail address that the issuer vouches for, in lower case.

    Raises:
        NotBelieved: it names none, or has not verified it.
    """
    address = claims.get("email")
    if not isinstance(address, str) or not address:
        raise NotBelieved("the issuer names no e-mail address")
    if claims.get("email_verified") is not True:
        raise NotBelieved("the issuer has not verified the e-mail address")
    # In ASCII only: some other letters become these when they are made small, and their owner would be taken for somebody else.
    if not address.isascii() or not address.isprintable() or address.count("@") != 1 or len(address) > ADDRESS_LENGTH_MAX or " " in address:
        raise NotBelieved("the e-mail address is not one that can be compared")
    return address.lower()


def is_allowed(address: str, allowed: Sequence[str]) -> bool:
    """Tell whether an address, or the whole of its domain, is on the list."""
    name, _, domain = address.partition("@")
    return bool(name) and (address in allowed or f"@{domain}" in allowed)


def _same(one: object, other: str) -> bool:
    return isinstance(one, str) and hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode())
