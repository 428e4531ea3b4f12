"""What a request may cost: the few facts of its body that decide a price, read once."""

from dataclasses import dataclass

from metering.classify import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class InputBound:
    """The most input that a body can bring, by kind.

    `text_bytes` bounds the text tokens, because no tokenizer makes more than one token of a byte.
    `media_tokens` bounds what images count for. `remote` tells that the body refers to content
    that we cannot see, so that only the model's context bounds it.
    """

    text_bytes: int
    media_tokens: int = 0
    audio_tokens: int = 0
    remote: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTool:
    """A tool that the provider runs by itself: `name` is the fee's name in the rate card.

    `model` is another model that the tool asks, billed at that model's rates.
    """

    name: str
    max_uses: int | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteredRequest:
    """A request's facts that decide its price.

    `choices` is `n`. `passes` is how often the provider may read the whole input (2 with
    compaction). `features` are priced modes that no token price covers. `other_models` are
    further models that may answer, in the order of the body. `body` is the plain JSON;
    `spans` says where the values that may have to be changed lie in it, in bytes.
    """

    operation: Operation
    model: str
    body: bytes
    input: InputBound
    stream: bool = False
    wants_usage: bool = False
    output_limit: int | None = None
    output_limit_field: str | None = None
    choices: int = 1
    passes: int = 1
    cache_write: frozenset[str] = frozenset()
    service_tier: str | None = None
    server_tools: tuple[ServerTool, ...] = ()
    features: frozenset[str] = frozenset()
    other_models: tuple[str, ...] = ()
