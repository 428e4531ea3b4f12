"""What a request is: the one classifier that authentication and metering both use.

A path that one of the two accepted and the other did not see would be free service, so there is
only this function, and what goes upstream is the path written here, never the client's spelling.
"""

import re
import string
from collections.abc import Mapping
from dataclasses import field, replace
from enum import StrEnum
from functools import lru_cache

from ledger.values import value
from metering.unserved import is_unserved, why_elsewhere, why_unserved

TARGET_CHARACTERS_MAX = 8192
KNOWN_CHARACTERS_MAX = 512  # of a target whose route is remembered
_ORIGIN_FORM = re.compile(r"/[!\"$-~]*\Z")  # visible ASCII without `#`
_UNRESERVED = re.compile(r"[A-Za-z0-9/_.~-]*\Z")
_UNENCODED = frozenset(string.ascii_letters + string.digits + "/-._~!$&'()*+,;=:@")
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")


class Dialect(StrEnum):
    """The shape of requests, answers and errors that the caller speaks."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    OPENROUTER = "openrouter"


class Operation(StrEnum):
    """What a provider is asked to do."""

    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    CHAT_COMPLETIONS = "chat_completions"
    RESPONSES = "responses"
    INPUT_TOKENS = "input_tokens"
    COMPACT = "compact"
    EMBEDDINGS = "embeddings"
    LIST_MODELS = "list_models"
    GET_MODEL = "get_model"
    PROBE = "probe"


BILLABLE = frozenset({Operation.MESSAGES, Operation.CHAT_COMPLETIONS, Operation.RESPONSES, Operation.COMPACT, Operation.EMBEDDINGS})
FREE_UPSTREAM = frozenset({Operation.COUNT_TOKENS, Operation.INPUT_TOKENS})


@value
class Route:
    """A request that the proxy itself answers or forwards.

    `token_text` is the api_token of the path, or None when a header carries it. `upstream_path`
    is canonical and begins with `/v1`; it follows the provider's base URL. `query` is the client's,
    without the question mark. `provider` is set where the path names one; otherwise the model
    decides. `model` is the name asked for by GET_MODEL.
    """

    operation: Operation
    dialect: Dialect
    upstream_path: str
    query: str = ""
    token_text: str | None = field(default=None, repr=False)
    provider: str | None = None
    model: str | None = None

    @property
    def billable(self) -> bool:
        """True when the request is forwarded under a hold and its answer is charged."""
        return self.operation in BILLABLE

    @property
    def free_upstream(self) -> bool:
        """True when the request is forwarded and costs nothing: its answer is never billed."""
        return self.operation in FREE_UPSTREAM


@value
class ControlRoute:
    """A request for the control API: everything that is not the proxy's. `path` is canonical."""

    path: str = field(repr=False)  # may hold an api_token
    query: str = ""


class RequestRefused(Exception):
    """We refuse a request before anything is forwarded; the text says what to do.

    `dialect` is None when the path does not tell it. `details` holds figures and names that an
    error body may carry.
    """

    def __init__(self, status: int, code: str, *, message: str, dialect: Dialect | None = None, details: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.dialect, self.details = dialect, details or {}


# Paths below /v1 that the proxy serves, and the one method each takes.
_POSTED = {
    ("messages",): (Operation.MESSAGES, Dialect.ANTHROPIC),
    ("messages", "count_tokens"): (Operation.COUNT_TOKENS, Dialect.ANTHROPIC),
    ("chat", "completions"): (Operation.CHAT_COMPLETIONS, Dialect.OPENAI),
    ("responses",): (Operation.RESPONSES, Dialect.OPENAI),
    ("responses", "input_tokens"): (Operation.INPUT_TOKENS, Dialect.OPENAI),
    ("responses", "compact"): (Operation.COMPACT, Dialect.OPENAI),
    ("embeddings",): (Operation.EMBEDDINGS, Dialect.OPENAI),
}
PATHS = {operation: f"/v1/{'/'.join(segments)}" for segments, (operation, _) in _POSTED.items()}
_ANTHROPIC_ONLY = frozenset({"messages", "complete", "organizations", "skills"})
# Below /proxy/{api_token}: the control API's own pages, and those with one more segment, the id of something.
_ACCOUNT_PAGES = frozenset({("balance",), ("transactions",), ("claims",)})
_ACCOUNT_ITEMS = frozenset({"claims"})


def classify(method: str, target: str, *, anthropic: bool = False) -> Route | ControlRoute:
    """Return what a request line asks for. `target` is in origin form, as received.

    `anthropic` says that the caller sent an `anthropic-version` header; it decides the dialect of
    the paths that two providers share (models, probes, unknown ones). A WebSocket upgrade has to be
    refused before this is called: it is a GET of a path that is only posted to.

    Raises:
        RequestRefused: 400 for a malformed target, 404 for a path that is not served,
            405 (with `details["allow"]`) for a wrong method.
    """
    return _classify_known(method, target, anthropic=anthropic) if len(target) <= KNOWN_CHARACTERS_MAX else _classify(method, target, anthropic=anthropic)


def _classify(method: str, target: str, *, anthropic: bool) -> Route | ControlRoute:
    segments, query = _split_target(target)
    if segments and segments[0] == "proxy":
        if len(segments) == 1:
            raise RequestRefused(
                404, "not_found", message="The api_token is missing: use /proxy/{api_token}/v1/...", dialect=_family(None, anthropic=anthropic)
            )
        return _classify_proxied(method, segments[1:], query, anthropic=anthropic)
    return _classify_bare(method, segments, query, anthropic=anthropic)


# A client asks for the same again and again; routes are values, and what is refused is not kept.
_classify_known = lru_cache(maxsize=512)(_classify)


def classify_forwarded(method: str, target: str, *, bases: Mapping[str, str]) -> Route:
    """Return what a request asks for that its client means to send to a provider's own host.

    `bases` holds the providers there and what stands before their `/v1` ("/api" at OpenRouter); the path decides among them, and
    the model where two share a place. No token is read from such a path, and nothing but provider paths is found.

    Raises:
        RequestRefused: as in `classify`, in the dialect that the host speaks.
    """
    pinned = next(iter(bases)) if len(bases) == 1 else None
    try:
        segments, query = _split_target(target)
        pinned, rest = _strip_provider_base(segments, bases)
        route = _provider_route(method, rest, query, token_text=None, pinned=pinned, anthropic=pinned == "anthropic")
    except RequestRefused as refused:
        refused.dialect = refused.dialect or (Dialect(pinned) if pinned else None)
        raise
    # A provider speaks its own dialect on all of its paths, but for those that it has taken over from another.
    if pinned is None or route.dialect is Dialect.ANTHROPIC or (pinned == "anthropic" and rest[:1] == ["chat"]):
        return route
    return replace(route, dialect=Dialect(pinned))


def _strip_provider_base(segments: list[str], bases: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """Return the provider whose base the path begins with, None where there are two, and the path below `/v1`; raise 404 where there is none."""
    places = {provider: [segment for segment in base.split("/") if segment] for provider, base in bases.items()}
    length = max((len(place) for place in places.values() if segments[: len(place)] == place), default=None)
    rest = segments[length:]
    if length is None or (rest and rest[0] != "v1"):
        raise RequestRefused(404, "not_found", message=why_elsewhere(set(bases.values())))
    found = [provider for provider, place in places.items() if place == segments[:length]]
    return (found[0] if len(found) == 1 else None), rest[1:]


def _split_target(target: str) -> tuple[list[str], str]:
    """Return the path's decoded segments and the raw query.

    Decodes once and only once; repeated slashes and a closing one do not matter. What could be read
    differently by somebody else (dot segments, backslashes, control characters, bad UTF-8) is refused.
    """
    path, _, query = target.partition("?")
    if len(target) > TARGET_CHARACTERS_MAX:
        raise RequestRefused(400, "invalid_path", message=f"The path is longer than {TARGET_CHARACTERS_MAX} characters.")
    if not _ORIGIN_FORM.match(target):
        raise RequestRefused(400, "invalid_path", message="The request target must be a plain path such as /v1/messages.")
    try:
        decoded = _ENCODED.sub(_decode_byte, path.encode()).decode("utf-8") if "%" in path else path
    except UnicodeDecodeError:
        raise RequestRefused(400, "invalid_path", message="The path is not valid UTF-8.") from None
    segments = [segment for segment in decoded.split("/") if segment]
    if "\\" in decoded or any(segment in {".", ".."} for segment in segments) or not decoded.isprintable():
        raise RequestRefused(400, "invalid_path", message="The path must not hold dot segments, backslashes or control characters.")
    return segments, query


def _decode_byte(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[1], 16),))


def _classify_proxied(method: str, segments: list[str], query: str, *, anthropic: bool) -> Route | ControlRoute:
    """Classify what follows `/proxy`: the api_token, then a provider path or an account page."""
    token_text, rest = segments[0], segments[1:]
    if tuple(rest) in _ACCOUNT_PAGES or (len(rest) == 2 and rest[0] in _ACCOUNT_ITEMS):
        return ControlRoute(path=_canonical(["proxy", *segments]), query=query)
    pinned, rest = _strip_base(rest)
    return _provider_route(method, rest, query, token_text=token_text, pinned=pinned, anthropic=anthropic)


def _classify_bare(method: str, segments: list[str], query: str, *, anthropic: bool) -> Route | ControlRoute:
    """Classify a path without `/proxy`: a provider path (the token is in a header), or the control API's."""
    pinned, rest = _strip_base(segments)
    if not rest:
        if segments or method == "HEAD":
            return _provider_route(method, rest, query, token_text=None, pinned=pinned, anthropic=anthropic)
        return ControlRoute(path="/", query=query)
    if pinned or rest[0] in {"chat", "models"} or (rest[0],) in _POSTED or (segments[0] == "v1" and is_unserved(rest[0])):
        return _provider_route(method, rest, query, token_text=None, pinned=pinned, anthropic=anthropic)
    return ControlRoute(path=_canonical(segments), query=query)


def _strip_base(segments: list[str]) -> tuple[str | None, list[str]]:
    """Return the provider pinned by an `/api` base, and the path below `/v1`.

    Both SDK families are configured with and without `/v1`, so none, one or two of them are understood.
    """
    rest = segments
    pinned = None
    if rest[:1] == ["api"]:
        pinned, rest = "openrouter", rest[1:]
    for _ in range(2):
        if rest[:1] == ["v1"]:
            rest = rest[1:]
    return pinned, rest


def _provider_route(method: str, rest: list[str], query: str, *, token_text: str | None, pinned: str | None, anthropic: bool) -> Route:
    """Return the route of a path below `/v1`.

    Raises:
        RequestRefused: 404 or 405, in the dialect that fits the path best.
    """
    posted = _POSTED.get(tuple(rest))
    family = _family(rest[0] if rest else None, anthropic=anthropic, pinned=pinned)
    if posted is not None:
        operation = posted[0]
        _require_method(method, ("POST",), family)
    elif not rest:
        operation = Operation.PROBE
        _require_method(method, ("GET", "HEAD"), family)
    elif rest[0] == "models":
        operation = Operation.GET_MODEL if len(rest) > 1 else Operation.LIST_MODELS
        _require_method(method, ("GET", "HEAD"), family)
    else:
        status, code, message = why_unserved(rest)
        raise RequestRefused(status, code, message=message, dialect=family)
    model = "/".join(rest[1:]) if operation is Operation.GET_MODEL else None
    path = _canonical(["v1", *rest])
    return Route(operation=operation, dialect=family, upstream_path=path, query=query, token_text=token_text, provider=pinned, model=model)


def _require_method(method: str, allowed: tuple[str, ...], dialect: Dialect) -> None:
    if method not in allowed:
        message = f"The method {method[:20]} is not allowed here; use {allowed[0]}."
        raise RequestRefused(405, "method_not_allowed", message=message, dialect=dialect, details={"allow": ", ".join(allowed)})


def _family(first: str | None, *, anthropic: bool, pinned: str | None = None) -> Dialect:
    """Return the dialect of a path by its first segment below `/v1`.

    OpenRouter's own /messages speaks Anthropic's format, errors included.
    """
    if first in _ANTHROPIC_ONLY:
        return Dialect.ANTHROPIC
    if pinned == "openrouter":
        return Dialect.OPENROUTER
    shared = (first,) not in _POSTED and first != "chat"
    return Dialect.ANTHROPIC if anthropic and shared else Dialect.OPENAI


def _canonical(segments: list[str]) -> str:
    """Write decoded segments as the one spelling that goes on from here."""
    path = "/" + "/".join(segments)
    return path if _UNRESERVED.match(path) else "".join(chr(byte) if chr(byte) in _UNENCODED else f"%{byte:02X}" for byte in path.encode())
