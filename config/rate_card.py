"""Reading the rate card: strict, whole, and with errors that name the row.

The file is TOML with integers only; its format stands in `rates.toml`. A model's table may also be
an array of tables, one for each `effective_from`.
"""

import hashlib
import re
import time
import tomllib
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.entries import ChargeRecord
from metering.pricing import price_record
from metering.rate_cards import FALLBACK_PRICES, NAME_CHARACTERS_MAX, PROVIDERS, RateCard, ReportedRates
from metering.rates import Prices, Rate, Tier

# Ten thousand dollars for a million tokens: a slip of the pen rather than a price.
Price = Annotated[int, Field(ge=0, le=10_000_000_000)]
Fee = Annotated[int, Field(ge=0, le=1_000_000_000)]
Bps = Annotated[int, Field(ge=1, le=1_000_000)]
MarkupBps = Annotated[int, Field(ge=0, le=100_000)]
TokenCount = Annotated[int, Field(ge=1, le=100_000_000)]
Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=r"^[A-Za-z0-9~][A-Za-z0-9._:/@~+-]*$")]
DEFAULT_MARKUP_BPS = 1000
REPORTED = "reported"
_PROVIDER = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
CARD_BYTES_MAX = 16 * 1024 * 1024


class RateCardError(Exception):
    """The rate card cannot be used; the text names the row and what is wrong with it."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Prices(_Section):
    input: Price
    output: Price | None = None
    cache_write_5m: Price | None = None
    cache_write_1h: Price | None = None
    cache_read: Price | None = None
    input_audio: Price | None = None
    output_audio: Price | None = None


class _Tier(_Prices):
    above: TokenCount


class _ServiceTier(_Section):
    bps: Bps


class _Row(_Prices):
    context: TokenCount
    output_max: TokenCount | None = None
    hidden_output: bool = False
    aliases: list[Name] = Field(default_factory=list)
    provider_model: Name | None = None
    tiers: list[_Tier] = Field(default_factory=list)
    service_tiers: dict[str, _ServiceTier] = Field(default_factory=dict)
    fees: dict[str, Fee] = Field(default_factory=dict)
    effective_from: date | None = None
    markup_bps: MarkupBps | None = None
    kind: Literal["text", "embedding"] = "text"


class _ReportedRow(_Row):
    """Usage that is only reported needs no bound for a hold."""

    context: TokenCount = 1


class _Markup(_Section):
    markup_bps: MarkupBps = DEFAULT_MARKUP_BPS


def shipped_rate_card() -> Path:
    """Return the place of the rate card that comes with the program."""
    return Path(str(files("config").joinpath("rates.toml")))


def load_rate_card(path: Path | str | None = None) -> RateCard:
    """Read a rate card; None means the one that comes with the program.

    Raises:
        RateCardError: it cannot be read, or a row of it is wrong.
    """
    place = Path(path) if path is not None else shipped_rate_card()
    try:
        body = place.read_bytes()
    except OSError as error:
        raise RateCardError(f"the rate card {place} cannot be read: {error.strerror}") from error
    if len(body) > CARD_BYTES_MAX:
        raise RateCardError(f"the rate card {place} is larger than {CARD_BYTES_MAX} bytes")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RateCardError(f"the rate card {place} is not UTF-8") from error
    return parse_rate_card(text, at_ms=time.time_ns() // 1_000_000)


def parse_rate_card(text: str, *, at_ms: int | None = None) -> RateCard:
    """Read the text of a rate card; it answers for the moment `at_ms`, or for the newest rates.

    Raises:
        RateCardError: the text is not TOML, or a row of it is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RateCardError(f"the rate card is not valid TOML: {error}") from error
    card_hash = hashlib.sha256(text.encode()).hexdigest()
    rates = list(_read_document(document))
    card = RateCard(rates, card_hash=card_hash, body=text, at_ms=at_ms, reported=_read_reported(document, card_hash=card_hash, at_ms=at_ms))
    if next(card.all_with_reported(), None) is None:
        raise RateCardError("the rate card has no rates")
    _refuse_shared_names(rates)
    return card


@lru_cache(maxsize=16)
def _parsed(body: str) -> RateCard:
    return parse_rate_card(body)


def price_from_body(record: ChargeRecord, body: str) -> tuple[int, int]:
    """Price a recorded charge again with the card it was made with: (amount, provider leg) in microunits.

    Raises:
        RateCardError: `body` is no rate card.
        UnknownModel: the card has no rate for the record's model.
    """
    price = price_record(record, _parsed(body))
    return price.amount, price.provider_leg


def _read_document(document: dict[str, Any]) -> Iterator[Rate]:
    unknown = sorted(set(document) - {*PROVIDERS, "markup_bps", REPORTED})
    if unknown:
        raise RateCardError(f"unknown name {unknown[0]!r} in the rate card; allowed are markup_bps, {', '.join(PROVIDERS)}, {REPORTED}")
    markup = _general_markup(document)
    for provider in (name for name in document if name not in ("markup_bps", REPORTED)):
        yield from _read_provider(provider, document[provider], markup_bps=markup, place=provider)


def _general_markup(document: dict[str, Any]) -> int:
    return _read(_Markup, {key: value for key, value in document.items() if key == "markup_bps"}, "the rate card").markup_bps


def _read_provider(
    provider: str, models: Any, *, markup_bps: int, place: str, but: tuple[str, ...] = ("markup_bps",), kind: type[_Row] = _Row
) -> Iterator[Rate]:
    if not isinstance(models, dict):
        raise RateCardError(f"{place} must be a table of models")
    own = {"markup_bps": models["markup_bps"]} if "markup_bps" in models else {"markup_bps": markup_bps}
    provider_markup = _read(_Markup, own, place).markup_bps
    for model in (name for name in models if name not in but):
        yield from _read_model(provider, model, models[model], markup_bps=provider_markup, place=f'{place}."{model}"', kind=kind)


def _read_reported(document: dict[str, Any], *, card_hash: str, at_ms: int | None) -> ReportedRates:
    """Read what usage that is only reported is estimated with; the gateway serves none of it."""
    markup, section = _general_markup(document), document.get(REPORTED, {})
    if not isinstance(section, dict):
        raise RateCardError(f"{REPORTED} must be a table of providers")
    fallback = _prices(_read(_Prices, section["fallback"], f"{REPORTED}.fallback")) if "fallback" in section else FALLBACK_PRICES
    rates, defaults = list[Rate](), dict[str, str]()
    for provider in (name for name in section if name != "fallback"):
        place = f"{REPORTED}.{provider}"
        if not _PROVIDER.fullmatch(provider):
            raise RateCardError(f"{place}: a provider's name has up to 40 lower-case letters, digits and signs")
        rates += _read_provider(provider, section[provider], markup_bps=markup, place=place, but=("markup_bps", "default"), kind=_ReportedRow)
        default = section[provider].get("default")
        if default is not None:
            if not isinstance(default, str):
                raise RateCardError(f"{place}: default names a model")
            defaults[provider] = default
    _refuse_shared_names(rates)
    known = RateCard(rates, card_hash=card_hash, at_ms=at_ms)
    return ReportedRates(rates=known, defaults=defaults, fallback=fallback, fallback_markup_bps=markup)


def _read_model(provider: str, model: str, content: Any, *, markup_bps: int, place: str, kind: type[_Row]) -> Iterator[Rate]:
    if not 0 < len(model) <= NAME_CHARACTERS_MAX:
        raise RateCardError(f"{place}: a model's name has 1 to {NAME_CHARACTERS_MAX} characters")
    versions = content if isinstance(content, list) else [content]
    rows = [_read(kind, version, place) for version in versions]
    starts = [row.effective_from for row in rows]
    if len(set(starts)) != len(starts):
        raise RateCardError(f"{place}: two versions have the same effective_from")
    for row in rows:
        yield _rate(provider, model, row, markup_bps=markup_bps)


def _read[Model: BaseModel](kind: type[Model], content: Any, place: str) -> Model:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RateCardError(f"{place}: {field + ': ' if field else ''}{first['msg']}") from None


def _rate(provider: str, model: str, row: _Row, *, markup_bps: int) -> Rate:
    if row.output is None and row.kind == "text":
        raise RateCardError(f'{provider}."{model}": output: a text model needs an output price')
    if len({tier.above for tier in row.tiers}) != len(row.tiers):
        raise RateCardError(f'{provider}."{model}": two tiers begin above the same number of tokens')
    prices = _prices(row)
    return Rate(
        provider=provider,
        model=model,
        provider_model=row.provider_model or model,
        prices=prices,
        markup_bps=markup_bps if row.markup_bps is None else row.markup_bps,
        context=row.context,
        output_max=row.output_max or row.context,
        hidden_output=row.hidden_output,
        aliases=tuple(row.aliases),
        tiers=tuple(Tier(above=tier.above, prices=_tier_prices(tier, prices)) for tier in sorted(row.tiers, key=lambda tier: tier.above)),
        service_tiers={name: tier.bps for name, tier in row.service_tiers.items()},
        fees=dict(row.fees),
        effective_from=row.effective_from.isoformat() if row.effective_from else None,
        kind=row.kind,
    )


def _or(price: int | None, otherwise: int) -> int:
    return otherwise if price is None else price


def _prices(row: _Prices) -> Prices:
    """Fill in what a row leaves out: the price of plain input, or of plain output."""
    output = _or(row.output, 0)
    write = _or(row.cache_write_5m, row.input)
    return Prices(
        input=row.input,
        output=output,
        cache_write_5m=write,
        cache_write_1h=_or(row.cache_write_1h, write),
        cache_read=_or(row.cache_read, row.input),
        input_audio=_or(row.input_audio, row.input),
        output_audio=_or(row.output_audio, output),
    )


def _tier_prices(tier: _Tier, basic: Prices) -> Prices:
    """Fill in what a tier leaves out: it rises with the tier's input price, or with its output price."""

    def risen(price: int, *, with_output: bool = False) -> int:
        new, old = (output, basic.output) if with_output else (tier.input, basic.input)
        return -(-price * new // old) if old else max(price, new)

    output = _or(tier.output, basic.output)
    return Prices(
        input=tier.input,
        output=output,
        cache_write_5m=_or(tier.cache_write_5m, risen(basic.cache_write_5m)),
        cache_write_1h=_or(tier.cache_write_1h, risen(basic.cache_write_1h)),
        cache_read=_or(tier.cache_read, risen(basic.cache_read)),
        input_audio=_or(tier.input_audio, risen(basic.input_audio)),
        output_audio=_or(tier.output_audio, risen(basic.output_audio, with_output=True)),
    )


def _refuse_shared_names(rates: list[Rate]) -> None:
    owners: dict[tuple[str, str], str] = {}
    for rate in rates:
        for name in (rate.model, rate.provider_model, *rate.aliases):
            owner = owners.setdefault((rate.provider, name), rate.model)
            if owner != rate.model and name not in (rate.model, rate.provider_model):
                raise RateCardError(f'{rate.provider}."{rate.model}": the name {name!r} belongs to "{owner}" already')
