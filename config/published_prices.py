"""Published list prices, from the data that the genai-prices package ships, as rows of a rate card.

For making and checking a rate card only: the path of a request never reads this. A price that is not a
whole number of microunits, or a model that cannot be priced by tokens alone, is left out with a reason.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

from metering.rate_cards import PROVIDERS, strip_date
from metering.rates import BPS

_KINDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "cache_read_mtok": "cache_read",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
}
# Providers that the gateway does not serve, whose usage can be reported to it: our name for each, and the one in the data.
REPORTED_PROVIDERS = {
    "google": "google", "deepseek": "deepseek", "xai": "x-ai", "mistral": "mistral", "cohere": "cohere", "groq": "groq", "meta": "meta",
    "moonshotai": "moonshotai", "perplexity": "perplexity",
}  # fmt: skip
REPORTED_NAME = "reported"
_FEES = {"web_searches_kcount": "web_search", "storage_searches_kcount": "file_search"}
# What the gateway does not serve: pictures, speech, real time, tuned models, batches, retired models, names that move.
_UNSERVED = {
    "anthropic": re.compile(r"claude-(?:2|v1|3)"),
    "openai": re.compile(
        r"image|realtime|transcribe|tts|whisper|search|live|deep-research|computer|instruct|moderation|^ft:|\.ft-|gpt-oss|:|vision|-high$"
        r"|^gpt-4o(?:-mini)?-audio|^(?:ada|babbage|curie|davinci|text-davinci|gpt-3|gpt-35|gpt-4-32k|gpt-4\.5|o1-preview|o1-mini|codex-mini$|gpt-chat)"
        r"|^gpt-\d-\d(?!\d)|^text-embedding-(?:ada$|ada-002-v2)"
    ),
    REPORTED_NAME: re.compile(r"image|imagen|veo|tts|live|audio|realtime|lyria|omni|transcribe|ocr|voxtral|orpheus|whisper|rerank|moderation|guard|:free$"),
    "openrouter": re.compile(
        r"^~|:|image|lyria|banana|omni|audio|voxtral|deep-research|search|stealth/|/gpt-3|/gpt-4(?:-turbo)?$|/wizardlm|guard|safety|^perplexity/sonar"
    ),
}
_DOTTED = re.compile(r"^claude-(?:fable|haiku|mythos|opus|sonnet)-\d+\.\d+$")
_OLD_NAMES = {"claude-opus-4-0": ("claude-opus-4",), "claude-sonnet-4-0": ("claude-sonnet-4",)}
_HIDDEN = re.compile(r"^(?:openai/)?(?:o[134](?:-|$)|gpt-[56](?!.*chat))|^google/gemini-(?!2\.0)|^x-ai/grok-(?:4|build|code)")
_US_ONLY = re.compile(r"^claude-(?:(?:opus|sonnet)-4-[6-9]|[a-z]+-[5-9])")
# The most output of one answer, by the beginning of a name; the first that fits counts.
_OUTPUT_MAX = (
    (r"claude-opus-4-[01]", 32_000),
    (r"claude-(?:opus|sonnet|haiku)-4-[0-5]|claude-sonnet-4-6", 64_000),
    (r"claude", 128_000),
    (r"gpt-4o|gpt-audio|chatgpt-4o", 16_384),
    (r"gpt-4\.1", 32_768),
    (r"gpt-4", 8_192),
    (r"o[134]", 100_000),
    (r"gpt", 128_000),
)
OTHER_OUTPUT_MAX = 131_072
# Where only prices are compared, a model may lack this.
UNKNOWN_CONTEXT = 1


class InexactPrice(ValueError):
    """A price that microunits or basis points cannot state exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """One model as it is published: its rows for a rate card, or why it cannot be one."""

    provider: str
    name: str
    row: dict[str, Any] = field(default_factory=dict)
    left_out: str | None = None


def microunits(usd: Decimal, *, per: int = 1) -> int:
    """Return USD for `per` of something as whole microunits for one.

    Raises:
        InexactPrice: there is no such whole number.
    """
    scaled = usd * 1_000_000 / per
    if scaled != scaled.to_integral_value():
        raise InexactPrice(f"{usd} USD is not a whole number of microunits")
    return int(scaled)


def published_models(provider: str, *, at: datetime | None = None) -> Iterator[PublishedModel]:
    """Yield every model of a provider that could be served, or reported, with the prices that hold at `at` (now)."""
    moment = at or datetime.now(UTC)
    for model in _source(provider):
        for name in _names(provider, model):
            try:
                yield PublishedModel(provider=provider, name=name, row=_row(provider, name, model, moment, context=model.context_window))
            except InexactPrice as reason:
                yield PublishedModel(provider=provider, name=name, left_out=str(reason))


def published_row(provider: str, name: str, *, at: datetime | None = None) -> dict[str, Any] | None:
    """Return the published row of a provider's model by its own name or a dated one, whether served here or not."""
    moment = at or datetime.now(UTC)
    models = _source(provider)
    listed = [model for model in models if name in {model.id, *_equal_names(model.match)}] or [model for model in models if model.id == strip_date(name)]
    if not listed:
        return None
    try:
        return _row(provider, name, listed[0], moment, context=listed[0].context_window or UNKNOWN_CONTEXT)
    except InexactPrice:
        return None


def _source(provider: str) -> list[Any]:
    # Imported here: it takes a third of a second, and only these commands need it.
    from genai_prices import data

    if provider not in PROVIDERS and provider not in REPORTED_PROVIDERS:
        raise ValueError(f"no such provider: {provider}")
    found = [known for known in data.providers if known.id == REPORTED_PROVIDERS.get(provider, provider)]
    return [model for model in found[0].models if not model.deprecated] if found else []


def _names(provider: str, model: Any) -> list[str]:
    """Return the names under which a model is sold; dated snapshots are found by their undated name."""
    # A list of several names is several models at one price: each keeps its own, so that none is exchanged for another.
    names = [model.id, *(_equal_names(model.match) if provider == "openai" else [])]
    return [name for name in dict.fromkeys(names) if not _unserved(provider).search(name) and (name == model.id or strip_date(name) == name)]


def _unserved(provider: str) -> re.Pattern[str]:
    return _UNSERVED.get(provider, _UNSERVED[REPORTED_NAME])


def _equal_names(clause: Any) -> list[str]:
    if hasattr(clause, "equals"):
        return [clause.equals]
    return [name for part in getattr(clause, "or_", []) for name in _equal_names(part)]


def _beginnings(clause: Any) -> list[str]:
    if hasattr(clause, "starts_with"):
        return [clause.starts_with]
    return [name for part in getattr(clause, "or_", []) for name in _beginnings(part)]


def _row(provider: str, name: str, model: Any, moment: datetime, *, context: int | None) -> dict[str, Any]:
    prices = model.get_prices(moment)
    if provider in REPORTED_PROVIDERS:
        return _reported_row(name, prices)
    if not context:
        raise InexactPrice("its context is not published")
    row = _token_prices(prices)
    if "output" not in row and not name.startswith("text-embedding"):
        raise InexactPrice("it has no output price")
    _mend_writes(provider, name, row)
    row["context"] = context
    bare = name.rsplit("/", 1)[-1]
    row["output_max"] = min(context, next((most for start, most in _OUTPUT_MAX if re.match(start, bare)), OTHER_OUTPUT_MAX))
    if name.startswith("text-embedding"):
        del row["output_max"]
        row["kind"] = "embedding"
    if _HIDDEN.search(name):
        row["hidden_output"] = True
    aliases = [*_OLD_NAMES.get(name, ()), *(start for start in _beginnings(model.match) if provider == "anthropic" and _DOTTED.match(start))]
    if aliases:
        row["aliases"] = aliases
    tiers = _service_tiers(provider, name, model, moment)
    if tiers:
        row["service_tiers"] = {tier: {"bps": bps} for tier, bps in tiers.items()}
    fees = {fee: microunits(getattr(prices, kind), per=1000) for kind, fee in _FEES.items() if getattr(prices, kind, None) is not None}
    if fees:
        row["fees"] = fees
    return row


def _reported_row(name: str, prices: Any) -> dict[str, Any]:
    """Return what usage that is only reported is estimated with: token prices alone. What is not reported needs no price."""
    row = _token_prices(prices, of_tokens_reported=True)
    if "output" not in row:
        if "embed" not in name:
            raise InexactPrice("it has no output price")
        row["kind"] = "embedding"
    for only_priced_on_the_way in ("input_audio", "output_audio"):
        row.pop(only_priced_on_the_way, None)
        for tier in row.get("tiers", []):
            tier.pop(only_priced_on_the_way, None)
    return row


def _token_prices(prices: Any, *, of_tokens_reported: bool = False) -> dict[str, Any]:
    stated = {kind: price for kind, price in vars(prices).items() if price is not None and kind not in _FEES}
    if of_tokens_reported:
        stated = {kind: price for kind, price in stated.items() if kind in _KINDS or not kind.endswith("_mtok")}
    unknown = sorted(set(stated) - set(_KINDS))
    if unknown or "input_mtok" not in stated:
        raise InexactPrice(f"it is not priced by tokens alone ({', '.join(unknown) or 'no input price'})")
    named = {name: stated[kind] for kind, name in _KINDS.items() if kind in stated}
    # Storage of a cache is listed as a fraction of a cent an hour; the next whole microunit pays for it.
    storage = named.get("cache_write_5m")
    if storage is not None and _base(storage) < _base(named["input"]):
        named["cache_write_5m"] = _base(storage).quantize(Decimal("0.000001"), rounding=ROUND_CEILING)
    row: dict[str, Any] = {name: microunits(_base(price)) for name, price in named.items()}
    if not any(row.values()):
        raise InexactPrice("it is free of charge")
    starts = sorted({tier.start for price in stated.values() for tier in getattr(price, "tiers", ())})
    if starts:
        row["tiers"] = [{"above": start} | {name: microunits(_above(price, start)) for name, price in named.items()} for start in starts]
    return row


def _base(price: Any) -> Decimal:
    return Decimal(getattr(price, "base", price))


def _above(price: Any, start: int) -> Decimal:
    reached = [tier for tier in getattr(price, "tiers", ()) if tier.start <= start]
    return Decimal(max(reached, key=lambda tier: tier.start).price) if reached else _base(price)


def _mend_writes(provider: str, name: str, row: dict[str, Any]) -> None:
    """Complete what OpenRouter's list says of cache writes.

    Google's are listed as what comes on top of the input, the storage; Anthropic's without those for one
    hour, which cost twice the input wherever they are listed.
    """
    if provider != "openrouter":
        return
    for prices in (row, *row.get("tiers", [])):
        written = prices.get("cache_write_5m")
        if written is None:
            continue
        if name.startswith("google/") and written < prices["input"]:
            prices["cache_write_5m"] = written + prices["input"]
        if name.startswith("anthropic/"):
            prices.setdefault("cache_write_1h", 2 * prices["input"])


def _service_tiers(provider: str, name: str, model: Any, moment: datetime) -> dict[str, int]:
    tiers = {}
    if provider == "anthropic":
        tiers["priority"] = BPS
        if _US_ONLY.match(name):
            tiers["geo_us"] = 11_000
    standard = model.get_prices(moment)
    for variant in model.price_variants or ():
        asked = {"service_tier": variant.when.get("service_tier"), "speed": variant.when.get("speed")}
        tier = asked["service_tier"] or (asked["speed"] and f"speed_{asked['speed']}")
        if len(variant.when) != 1 or tier in (None, "default"):
            continue
        if variant.constraint is None or variant.constraint.active(moment):
            tiers[tier] = _ratio(standard, variant.prices)
    return tiers


def _ratio(standard: Any, changed: Any) -> int:
    """Return the dearest of what a tier multiplies input and output by, in basis points, rounded up."""
    kinds = [kind for kind in ("input_mtok", "output_mtok") if getattr(changed, kind) is not None]
    ratios = [_base(getattr(changed, kind)) * BPS / _base(getattr(standard, kind)) for kind in kinds]
    return max(-int(-ratio // 1) for ratio in ratios)
