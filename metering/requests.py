"""Reading a request's body: only what decides a price, and strictly that, as pure values."""

from collections.abc import Mapping
from dataclasses import field

from ledger.values import value
from metering.classify import Operation, RequestRefused, Route
from metering.contents import ContentScan, scan_contents
from metering.encodings import decode_body
from metering.features import read_fallbacks, read_features, read_passes, read_tiers, read_unseen
from metering.json_text import InvalidJson, JsonObject, byte_offsets, read_object
from metering.references import InvalidReference, StoredReference, read_top
from metering.server_tools import OUTPUT_LIMIT_MAX, InvalidTools, ServerTool, read_server_tools, typed_tools

__all__ = ["BodyLayout", "InputBound", "MeteredRequest", "ServerTool", "read_request"]

BODY_BYTES_MAX = 32 * 1024 * 1024
CHOICES_MAX = 128
OTHER_MODELS_MAX = 16
NAME_CHARACTERS_MAX = 200

# What providers add to every request, and for each of their own tools, as tokens.
FRAME_TOKENS = 64
FRAME_TOKENS_BY_MODEL = {"grok": 1_000}  # xAI puts a prompt of its own before each request
TOOLS_FRAME_TOKENS = 800
TYPED_TOOL_TOKENS = 4_000
# The most tokens that one image counts for at its highest detail.
IMAGE_TOKENS_ANTHROPIC = 5_000
IMAGE_TOKENS = 10_000
IMAGE_TOKENS_BY_MODEL = {"gpt-4o-mini": 50_000}  # bills images at 33 times its text
# Sound: at most 32 tokens a second, at least 1,000 bytes a second, 4 characters of base64 for 3 bytes.
AUDIO_CHARACTERS_PER_TOKEN = 20

# The field each operation takes for its output limit (the first is the one that is written), all that are read.
LIMIT_FIELDS: dict[Operation, tuple[str, ...]] = {
    Operation.MESSAGES: ("max_tokens",),
    Operation.CHAT_COMPLETIONS: ("max_completion_tokens", "max_tokens"),
    Operation.RESPONSES: ("max_output_tokens",),
}
_PLACED = ("model", "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens")
# Fields that decide a price, or what is referred to. Some parsers match names whatever their case, so another spelling is refused.
_PRICED = frozenset({
    "model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "max_output_tokens", "service_tier", "tools", "background", "speed",
    "inference_geo", "modalities", "models", "plugins", "route", "web_search_options", "fallbacks", "mcp_servers", "previous_response_id", "conversation",
    "prompt", "container", "store", "input", "messages", "thread", "diagnostics", "provider", "prompt_cache_options", "billing_policy", "thinking",
})  # fmt: skip
_REFERENCES = frozenset({"previous_response_id", "conversation", "prompt", "container", "mcp_servers"})
_REFERRING_TOP = frozenset({"previous_response_id", "conversation", "prompt", "prompt_cache_options"})  # those that `read_top` reads
_CONTENT_TYPES: dict[str, tuple[type, ...]] = {"messages": (list,), "input": (list, str), "system": (list, str)}


@value
class InputBound:
    """The most input that a body can bring, by kind.

    `text_bytes` bounds the text tokens: tokenizers in use make at most one token of a byte, so no
    text counts for more tokens than it has bytes. What a provider adds by itself (the frame of a
    message, descriptions of its own tools) is counted in it too. `media_tokens` bounds what images
    count for, `audio_tokens` what sound does. `remote` tells that the body refers to content that
    we cannot see or measure, so that only the model's context bounds it; `files` that there are files.
    """

    text_bytes: int
    media_tokens: int = 0
    audio_tokens: int = 0
    remote: bool = False
    files: bool = False


@value
class BodyLayout:
    """Where the values that may have to be changed stand in a body, in bytes.

    `closing` is the position of the object's closing brace; `empty` tells that nothing stands in it.
    """

    spans: Mapping[str, tuple[int, int]]
    closing: int
    empty: bool


@value
class MeteredRequest:
    """A request's facts that decide its price.

    `body` is the plain JSON, decompressed; empty once whoever keeps the facts has let go of it. `wants_usage` tells that a stream's usage was asked for.
    `output_limit_field` is the field that holds the output limit or, where there is none, would hold
    it; None where the operation takes no limit. `choices` is `n`. `passes` is how often the provider
    may read the whole input (2 with compaction). `cache_write` holds the lifetimes asked for. `tiers`
    holds `service_tier` and the likes of it (speed, place) under the rate card's names. `features` are
    modes that token prices do not cover. `other_models` are all further models that may be billed,
    without repeats; `fallback_models` those of them that may answer in the place of `model`. `references`
    are the objects stored at the provider that the body names, each once; `sealed` items that a provider which
    keeps answers looks up by their ids, and others read as they stand. `stores` tells that the answer will be kept.
    `unseen_output` is how many tokens may have been thought before a stream tells of them.
    """

    operation: Operation
    model: str
    body: bytes = field(repr=False)
    layout: BodyLayout = field(repr=False)
    input: InputBound
    stream: bool = False
    wants_usage: bool = False
    output_limit: int | None = None
    output_limit_field: str | None = None
    choices: int = 1
    passes: int = 1
    cache_write: frozenset[str] = frozenset()
    service_tier: str | None = None
    tiers: tuple[str, ...] = ()
    server_tools: tuple[ServerTool, ...] = ()
    features: frozenset[str] = frozenset()
    other_models: tuple[str, ...] = ()
    fallback_models: tuple[str, ...] = ()
    references: tuple[StoredReference, ...] = ()
    sealed: tuple[StoredReference, ...] = ()
    stores: bool = False
    unseen_output: int = 0


def read_request(route: Route, body: bytes, *, content_encoding: str = "", bytes_max: int = BODY_BYTES_MAX) -> MeteredRequest:
    """Return what decides the price of a request.

    Raises:
        RequestRefused: in the route's dialect; 400 names the field or place that is wrong, 413 and
            415 are about the encoding (`encodings.decode_body`).
    """
    try:
        plain = decode_body(body, content_encoding, bytes_max=bytes_max)
        document = _read_document(plain)
        return _read_facts(route.operation, plain, document)
    except RequestRefused as refusal:
        refusal.dialect = route.dialect
        raise


def _read_document(plain: bytes) -> JsonObject:
    try:
        text = plain.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestRefused(400, "invalid_json", message=f"The request body is not valid UTF-8 (byte {error.start}).") from None
    try:
        document = read_object(text)
    except InvalidJson as error:
        raise RequestRefused(400, "invalid_json", message=f"The request body is not valid JSON: {error}.") from None
    for name in document.values:
        if name not in _PRICED and name.lower() in _PRICED:
            raise _invalid(name, f"is not a field; did you mean {name.lower()!r}?")
    return document


def _read_facts(operation: Operation, plain: bytes, document: JsonObject) -> MeteredRequest:
    values = document.values
    model = _read_model(values)
    _require_content_types(values)
    scan = _scan(values)
    tools = _read_tools(values, scan.tools)
    service_tier = _read_name(values, "service_tier") if "service_tier" in values else None
    limit, limit_field = _read_output_limit(operation, values)
    fallbacks = read_fallbacks(values, model)
    other_models = tuple(dict.fromkeys([*fallbacks, *[tool.model for tool in tools if tool.model not in (None, model)]])) if tools else fallbacks
    if len(other_models) > OTHER_MODELS_MAX:
        raise _invalid("models", f"names more than {OTHER_MODELS_MAX} further models")
    return MeteredRequest(
        operation=operation,
        model=model,
        body=plain,
        layout=_layout(document),
        input=_bound_input(operation, (model, *other_models), values=values, size=len(plain), scan=scan),
        stream=_read_flag(values, "stream") if "stream" in values else False,
        wants_usage=_read_wants_usage(values) if "stream_options" in values else False,
        output_limit=limit,
        output_limit_field=limit_field,
        choices=(_read_count(values, "n", most=CHOICES_MAX) or 1) if "n" in values else 1,
        passes=read_passes(values),
        cache_write=frozenset(scan.cache_write),
        service_tier=service_tier,
        tiers=read_tiers(values, service_tier),
        server_tools=tools,
        features=read_features(values, audio_input=scan.audio_bytes > 0),
        other_models=other_models,
        fallback_models=fallbacks,
        references=tuple(dict.fromkeys(scan.references)) if scan.references else (),
        sealed=tuple(dict.fromkeys(scan.sealed)) if scan.sealed else (),
        stores=operation is Operation.RESPONSES and (values.get("store") is None or _read_flag(values, "store")),
        unseen_output=read_unseen(values, model),
    )


def _scan(values: dict[str, object]) -> ContentScan:
    try:
        scan = scan_contents(values)
        if not _REFERRING_TOP.isdisjoint(values):
            for found in read_top(values):
                scan.refer(found)
        return scan
    except InvalidReference as error:
        raise _invalid(error.field, str(error)) from None


def _bound_input(operation: Operation, models: tuple[str, ...], *, values: dict[str, object], size: int, scan: ContentScan) -> InputBound:
    """Bound the input: every byte of the body a token, except inlined images and sound, which count by their own rules."""
    per_image = IMAGE_TOKENS_ANTHROPIC if operation is Operation.MESSAGES else _dearest_model(IMAGE_TOKENS_BY_MODEL, models, usual=IMAGE_TOKENS)
    frame = _dearest_model(FRAME_TOKENS_BY_MODEL, models, usual=FRAME_TOKENS)
    added = frame + (TOOLS_FRAME_TOKENS + TYPED_TOOL_TOKENS * typed_tools(values, scan.tools) if values.get("tools") or scan.tools else 0)
    return InputBound(
        text_bytes=max(size - scan.media_bytes, 0) + added,
        media_tokens=scan.images * per_image,
        audio_tokens=-(-scan.audio_bytes // AUDIO_CHARACTERS_PER_TOKEN),
        remote=scan.remote or (not _REFERENCES.isdisjoint(values) and any(values[name] for name in _REFERENCES if name in values)),
        files=scan.files,
    )


def _dearest_model(tokens: Mapping[str, int], models: tuple[str, ...], *, usual: int) -> int:
    """Return the largest count that any of these models is known for by a part of its name."""
    dearest: int | None = None
    for part, count in tokens.items():
        for name in models:
            if part in name and (dearest is None or count > dearest):
                dearest = count
    return usual if dearest is None else dearest


def _layout(document: JsonObject) -> BodyLayout:
    placed = {name: document.spans[name] for name in _PLACED if name in document.spans}
    if document.text.isascii():
        return BodyLayout(spans=placed, closing=document.closing, empty=not document.values)
    offsets = byte_offsets(document.text, [document.closing, *(position for span in placed.values() for position in span)])
    spans = {name: (offsets[begin], offsets[end]) for name, (begin, end) in placed.items()}
    return BodyLayout(spans=spans, closing=offsets[document.closing], empty=not document.values)


def _invalid(field: str, what: str) -> RequestRefused:
    return RequestRefused(400, "invalid_request", message=f"The field {field[:80]!r} {what}.", details={"field": field[:80]})


def _read_model(values: dict[str, object]) -> str:
    model = values.get("model")
    if model is None:
        raise _invalid("model", "is missing; name a model of /v1/pricing")
    if not isinstance(model, str) or not 0 < len(model) <= NAME_CHARACTERS_MAX or not model.isprintable():
        raise _invalid("model", f"must be a string of 1 to {NAME_CHARACTERS_MAX} printable characters")
    return model


def _read_name(values: dict[str, object], field: str) -> str | None:
    name = values.get(field)
    if name is not None and (not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable()):
        raise _invalid(field, "must be a short string")
    return name if isinstance(name, str) else None


def _read_flag(values: dict[str, object], field: str) -> bool:
    flag = values.get(field)
    if flag is not None and not isinstance(flag, bool):
        raise _invalid(field, "must be true or false")
    return flag is True


def _read_count(values: dict[str, object], field: str, *, most: int) -> int | None:
    count = values.get(field)
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
        raise _invalid(field, f"must be a whole number from 1 to {most}")
    return count


def _read_output_limit(operation: Operation, values: dict[str, object]) -> tuple[int | None, str | None]:
    """Return the client's output limit and the field it stands in; of two, the larger, since either may be heeded."""
    fields = LIMIT_FIELDS.get(operation, ())
    found = [(limit, name) for name in fields if name in values and (limit := _read_count(values, name, most=OUTPUT_LIMIT_MAX)) is not None]
    return max(found) if found else (None, fields[0] if fields else None)


def _read_wants_usage(values: dict[str, object]) -> bool:
    options = values.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise _invalid("stream_options", "must be an object")
    wanted = options.get("include_usage")
    if wanted is not None and not isinstance(wanted, bool):
        raise _invalid("stream_options.include_usage", "must be true or false")
    return wanted is True


def _read_tools(values: dict[str, object], more: list[object]) -> tuple[ServerTool, ...]:
    try:
        return read_server_tools(values, more)
    except InvalidTools as error:
        raise _invalid(error.field, str(error)) from None


def _require_content_types(values: dict[str, object]) -> None:
    """Refuse contents of a form that no provider takes, before anything is set aside for them."""
    for name, allowed in _CONTENT_TYPES.items():
        if values.get(name) is not None and not isinstance(values[name], allowed):
            raise _invalid(name, "must be a string or a list" if str in allowed else "must be a list")
