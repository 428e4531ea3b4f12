"""The OpenID Connect provider: what it says of itself, where people sign in, and who they are. Code flow with PKCE, nothing else.

Everything it says is bounded in length and time, no redirect is followed, and what it says of itself must bear the name
that the operator has set: a document of another issuer is not used.
"""

import asyncio
import base64
import hashlib
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

from config.admin import OidcSettings
from config.sections import is_loopback_host
from control.console.identity import Claims, Expected, NotBelieved, UnknownSigner, read_id_token, verified_address

if TYPE_CHECKING:
    import httpx2  # loaded by the first sign-in: most processes never see one

SCOPE: Final = "openid email"
ANSWER_BYTES_MAX: Final = 256 * 1024
ANSWER_SECONDS_MAX: Final = 10.0
KEPT_SECONDS: Final = 3600.0
KEYS_AGAIN_SECONDS: Final = 60.0  # at most this often are the keys asked for again since a token bore none of them
SUCCESS: Final = 200


class ProviderAway(Exception):
    """The provider did not answer as it should; the text is for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What a provider says of itself, as far as it matters here."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    names_itself: bool
    secret_in_body: bool


@dataclass(frozen=True, slots=True)
class _Kept[Value]:
    value: Value
    at: float


class OidcProvider:
    """One provider as the settings name it. What it publishes is kept for an hour."""

    def __init__(self, settings: OidcSettings, *, redirect_uri: str) -> None:
        if settings.issuer is None or settings.client_id is None or settings.client_secret is None:
            raise ValueError("the settings name no issuer")
        self.issuer, self._client_id, self._secret = settings.issuer, settings.client_id, settings.client_secret.get_secret_value()
        self._redirect_uri, self._ca_file = redirect_uri, settings.ca_file
        self._metadata: _Kept[Metadata] | None = None
        self._keys: _Kept[Sequence[Claims]] | None = None
        self._lock = asyncio.Lock()

    @property
    def host(self) -> str:
        """The name under which people know it."""
        return urlsplit(self.issuer).netloc

    async def address_to_sign_in(self, *, state: str, nonce: str, verifier: str, other: bool = False) -> str:
        """Return where the browser is sent; with `other` the person is asked which account to use, though the issuer knows one already.

        Raises:
            ProviderAway: it does not say.
        """
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code", "client_id": self._client_id, "redirect_uri": self._redirect_uri, "scope": SCOPE, "state": state, "nonce": nonce,
            "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        query |= {"prompt": "select_account"} if other else {}
        endpoint = (await self._describe()).authorization_endpoint
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def check(self) -> int:
        """Return how many keys it publishes, having read all that a sign-in needs.

        Raises:
            ProviderAway: something is missing.
        """
        return len(await self._published_keys())

    async def require_answer_of(self, issuer: str | None) -> None:
        """Refuse an answer that says it is another provider's, or does not say whose where this one always does.

        Raises:
            NotBelieved: so it is.
            ProviderAway: it cannot be known.
        """
        if issuer is None:
            if (await self._describe()).names_itself:
                raise NotBelieved("the answer does not name its issuer, and this one always does")
        elif issuer != self.issuer:
            raise NotBelieved("the answer is of another issuer")

    async def identify(self, code: str, *, verifier: str, nonce: str) -> str:
        """Return the verified e-mail address of whoever got this code, in lower case.

        Raises:
            NotBelieved: what came proves nothing.
            ProviderAway: it did not answer.
        """
        tokens = await self._exchange(code, verifier)
        text = tokens.get("id_token")
        if not isinstance(text, str):
            raise NotBelieved("there is no ID token in the answer")
        claims = await self._believe(text, Expected(issuer=self.issuer, client_id=self._client_id, nonce=nonce))
        if "email" not in claims:
            claims = await self._ask_who(claims, tokens.get("access_token"))
        return verified_address(claims)

    async def _believe(self, text: str, expected: Expected) -> Claims:
        try:
            return read_id_token(text, await self._published_keys(), expected)
        except UnknownSigner:
            return read_id_token(text, await self._published_keys(again=True), expected)

    async def _exchange(self, code: str, verifier: str) -> Mapping[str, Any]:
        metadata = await self._describe()
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._redirect_uri, "code_verifier": verifier}
        if metadata.secret_in_body:
            form |= {"client_id": self._client_id, "client_secret": self._secret}
            return await self._ask("POST", metadata.token_endpoint, form=form)
        pair = urlencode({self._client_id: self._secret}).replace("=", ":", 1)  # each is encoded as in a form first
        credentials = "Basic " + base64.b64encode(pair.encode()).decode()
        return await self._ask("POST", metadata.token_endpoint, form=form, authorization=credentials)

    async def _ask_who(self, claims: Claims, access_token: object) -> Claims:
        """Ask for the address where the ID token has none. The answer must be of the same person."""
        endpoint = (await self._describe()).userinfo_endpoint
        if endpoint is None or not isinstance(access_token, str) or not access_token.isascii():
            return claims
        told = await self._ask("GET", endpoint, authorization=f"Bearer {access_token}")
        if told.get("sub") != claims["sub"]:
            raise NotBelieved("the issuer told of somebody else")
        return told

    async def _describe(self) -> Metadata:
        async with self._lock:
            if self._metadata is None or time.monotonic() - self._metadata.at > KEPT_SECONDS:
                found = await self._ask("GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
                self._metadata = _Kept(self._read_metadata(found), time.monotonic())
            return self._metadata.value

    def _read_metadata(self, found: Mapping[str, Any]) -> Metadata:
        if found.get("issuer") != self.issuer:
            raise ProviderAway(f"{self.issuer} calls itself {str(found.get('issuer'))[:200]!r}: set the issuer exactly so")
        methods = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return Metadata(
            authorization_endpoint=self._endpoint(found, "authorization_endpoint"),
            token_endpoint=self._endpoint(found, "token_endpoint"),
            jwks_uri=self._endpoint(found, "jwks_uri"),
            userinfo_endpoint=self._endpoint(found, "userinfo_endpoint") if found.get("userinfo_endpoint") else None,
            names_itself=found.get("authorization_response_iss_parameter_supported") is True,
            secret_in_body=isinstance(methods, list) and "client_secret_basic" not in methods,
        )

    def _endpoint(self, found: Mapping[str, Any], name: str) -> str:
        """Return an address that secrets may be sent to: encrypted, unless issuer and endpoint both are on this machine."""
        address = found.get(name)
        parts = urlsplit(address) if isinstance(address, str) else None
        local = self.issuer.startswith("http://") and parts is not None and parts.scheme == "http" and is_loopback_host(parts.hostname or "")
        if parts is None or not parts.hostname or parts.fragment or not (parts.scheme == "https" or local):
            raise ProviderAway(f"{self.issuer}: its {name} cannot be used")
        return str(address)

    async def _published_keys(self, *, again: bool = False) -> Sequence[Claims]:
        uri = (await self._describe()).jwks_uri
        async with self._lock:
            age = KEPT_SECONDS + 1 if self._keys is None else time.monotonic() - self._keys.at
            if age > (KEYS_AGAIN_SECONDS if again else KEPT_SECONDS) or self._keys is None:
                keys = (await self._ask("GET", uri)).get("keys")
                if not isinstance(keys, list):
                    raise ProviderAway(f"{self.issuer} publishes no keys")
                self._keys = _Kept([key for key in keys if isinstance(key, dict)], time.monotonic())
            return self._keys.value

    async def _ask(self, method: str, address: str, *, form: Mapping[str, str] | None = None, authorization: str | None = None) -> Mapping[str, Any]:
        import httpx2

        headers = {"Accept": "application/json", **({"Authorization": authorization} if authorization else {})}
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX), self._client(address) as client:
                async with client.stream(method, address, data=form, headers=headers) as response:
                    body = bytearray()
                    async for block in response.aiter_bytes():
                        body += block
                        if len(body) > ANSWER_BYTES_MAX:
                            raise ProviderAway(f"{urlsplit(address).netloc}: the answer is too long")
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            raise ProviderAway(f"{urlsplit(address).netloc}: {type(error).__name__}") from error
        if method == "POST" and 400 <= response.status_code < 500:
            raise NotBelieved(f"the issuer refuses the code (status {response.status_code})")
        if response.status_code != SUCCESS:
            raise ProviderAway(f"{urlsplit(address).netloc}: status {response.status_code}")
        return _json_object(bytes(body), address)

    def _client(self, address: str) -> "httpx2.AsyncClient":
        import httpx2

        context = ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
        # A provider on this machine is reached directly, whatever proxy the environment names.
        direct = is_loopback_host(urlsplit(address).hostname or "")
        return httpx2.AsyncClient(timeout=ANSWER_SECONDS_MAX, follow_redirects=False, verify=context, trust_env=not direct)


def _json_object(body: bytes, address: str) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProviderAway(f"{urlsplit(address).netloc}: the answer is not JSON") from error
    if not isinstance(found, dict):
        raise ProviderAway(f"{urlsplit(address).netloc}: the answer is not an object")
    return found
