"""The rate card: every model that has a price, found by the many names it goes by."""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from metering.rates import Prices, Rate, UnknownModel, effective

PROVIDERS = ("anthropic", "openai", "openrouter")
NAME_CHARACTERS_MAX = 200
# A snapshot of a model: -20250929, -2024-08-06, @20250929 or -0613 at the end of its name.
_DATE = re.compile(r"[-@](20\d{6}|20\d\d-\d\d-\d\d|[01]\d[0-3]\d)$")
_MILLISECONDS_PER_DAY = 86_400_000


def strip_date(name: str) -> str:
    """Return a model's name without the date of its snapshot."""
    return _DATE.sub("", name)


def loose_name(name: str) -> str:
    """Return what two spellings of one model share: `anthropic/claude-4.6-sonnet-20260217` and `claude-sonnet-4-6`."""
    bare = strip_date(name.lower().rsplit("/", 1)[-1].split(":", 1)[0]).replace(".", "-")
    words = [word for word in bare.split("-") if word]
    return "-".join(sorted(word for word in words if not word.isdigit()) + [word for word in words if word.isdigit()])


@dataclass(frozen=True, slots=True)
class _Names:
    """Where each name of a card leads."""

    exact: dict[str, Rate]
    by_provider: dict[str, dict[str, Rate]]
    loose: dict[str, dict[str, Rate | None]]


# What usage of a provider that nobody has a rate for is estimated at: 1, 3 and 0.10 USD per million tokens.
FALLBACK_PRICES = Prices(
    input=1_000_000, output=3_000_000, cache_write_5m=1_000_000, cache_write_1h=1_000_000, cache_read=100_000, input_audio=1_000_000, output_audio=3_000_000
)


@dataclass(frozen=True, slots=True)
class ReportedRates:
    """What usage that is only reported is estimated with, beside the rates of what the gateway serves.

    `defaults` names the model of a provider whose rate an unknown model of that provider is given. None of `rates` can be asked
    for through the gateway.
    """

    rates: "RateCard | None" = None
    defaults: Mapping[str, str] = field(default_factory=dict)
    fallback: Prices = FALLBACK_PRICES
    fallback_markup_bps: int = 0


class RateCard:
    """All rates, by name, as they hold at one moment.

    `hash` names the version; `body` is the text it was read from, which the journal keeps. A model
    may have several rates with different `effective_from`: `at` gives the card of a moment, and
    the card itself answers for the moment it was loaded at.
    """

    def __init__(self, rates: Iterable[Rate], *, card_hash: str, body: str = "", at_ms: int | None = None, reported: ReportedRates | None = None) -> None:
        self.hash, self.body, self.reported = card_hash, body, reported or ReportedRates()
        self._versions: dict[tuple[str, str], list[Rate]] = defaultdict(list)
        for rate in rates:
            self._versions[rate.provider, rate.model].append(rate)
        for versions in self._versions.values():
            versions.sort(key=_start_of)
        self._changes = sorted({_start_of(rate) for versions in self._versions.values() for rate in versions} - {0})
        self._moments: dict[int, RateCard] = {}
        self._rates = {key: current for key, versions in self._versions.items() if (current := _current(versions, at_ms)) is not None}
        self._names: _Names | None = None

    def at(self, ms: int) -> "RateCard":
        """Return the card as it held at `ms` milliseconds since the epoch."""
        if not self._changes:
            return self
        moment = bisect_right(self._changes, ms)
        if moment not in self._moments:
            rates = (rate for versions in self._versions.values() for rate in versions)
            card = RateCard(rates, card_hash=self.hash, body=self.body, at_ms=self._changes[moment - 1] if moment else -1)
            # The card of a moment answers for that moment alone.
            card._changes = []
            self._moments[moment] = card
        return self._moments[moment]

    def all(self) -> Iterator[Rate]:
        """Iterate over every rate in force, in the order of the file."""
        return iter(self._rates.values())

    def all_with_reported(self) -> Iterator[Rate]:
        """Iterate over every rate in force, those of usage that is only reported at the end."""
        yield from self.all()
        if self.reported.rates is not None:
            yield from self.reported.rates.all()

    def find(self, name: str, *, provider: str | None = None) -> Rate:
        """Return the rate of a model by its name, `provider/name`, the provider's own name, an alias or a dated snapshot.

        `provider` confines the search. For a snapshot that has no row of its own the rate bears the
        snapshot's name as `provider_model`, so that the provider is asked for what the client asked for.

        Raises:
            UnknownModel: no rate has this name; it carries similar names that have one.
        """
        found = self._lookup(name, provider)
        if found is not None:
            return found
        undated = strip_date(name)
        if undated != name and (found := self._lookup(undated, provider)) is not None:
            return replace(found, provider_model=_dated(found, name))
        raise UnknownModel(name, self.near(name, provider=provider))

    def near(self, name: str, *, provider: str | None = None) -> tuple[str, ...]:
        """Return up to three names on the card that resemble `name`."""
        rates = [rate for rate in self._rates.values() if provider in (None, rate.provider)]
        names = {rate.model.lower(): rate.model for rate in rates} | {rate.provider_model.lower(): rate.model for rate in rates}
        close = get_close_matches(name[:NAME_CHARACTERS_MAX].lower(), list(names), n=6, cutoff=0.5)
        return tuple(dict.fromkeys(names[one] for one in close))[:3]

    def rate_for_answer(self, provider: str, model: str | None, requested: Rate) -> Rate:
        """Return the rate of the model that an answer names; `requested` where the card does not know it."""
        return self.rate_of_line(provider, model, requested=requested)[0]

    def rate_of_line(self, provider: str, model: str | None, *, requested: Rate | None) -> tuple[Rate, bool]:
        """Return the rate of an answering model and whether the card knows it; else `requested`.

        Raises:
            UnknownModel: the card does not know it and nothing was requested.
        """
        if model is None and requested is not None:
            return requested, True
        found = self._answering(provider, model or "", requested)
        if found is not None:
            return found, True
        if requested is None:
            raise UnknownModel(model or "", self.near(model or "", provider=provider))
        return requested, False

    def known(self, provider: str, model: str) -> Rate | None:
        """Return the rate of a provider's model by any of its names, or None; unlike `find` it looks for no similar ones."""
        return self._answering(provider, model, None)

    def pricing_view(self) -> dict[str, dict[str, object]]:
        """Return effective prices, mark-up included, as `GET /v1/pricing` publishes them."""
        return {f"{rate.provider}/{rate.model}": _view(rate) for rate in self._rates.values()}

    def _answering(self, provider: str, model: str, requested: Rate | None) -> Rate | None:
        if requested is not None and requested.provider == provider and model in (requested.model, requested.provider_model, *requested.aliases):
            return requested
        for name in dict.fromkeys((model, model.split(":", 1)[0], strip_date(model))):
            found = self._lookup(name, provider)
            if found is not None:
                return found
        loose = loose_name(model)
        if requested is not None and requested.provider == provider and loose in {loose_name(requested.model), loose_name(requested.provider_model)}:
            return requested
        return self._index().loose.get(provider, {}).get(loose)

    def _lookup(self, name: str, provider: str | None) -> Rate | None:
        names = self._index()
        if provider is None:
            return names.exact.get(name)
        return names.by_provider.get(provider, {}).get(name.removeprefix(f"{provider}/")) or names.by_provider.get(provider, {}).get(name)

    def _index(self) -> _Names:
        if self._names is None:
            self._names = _index(sorted(self._rates.values(), key=_provider_order))
        return self._names


def _index(rates: list[Rate]) -> _Names:
    """Give every name to one rate; the plainer name wins, then the provider that comes first."""
    exact, by_provider, loose = dict[str, Rate](), defaultdict[str, dict[str, Rate]](dict), defaultdict[str, dict[str, Rate | None]](dict)
    for rate in rates:
        exact.setdefault(f"{rate.provider}/{rate.model}", rate)
        by_provider[rate.provider].setdefault(rate.model, rate)
    for rate in rates:
        for name in (rate.model, rate.provider_model, f"{rate.provider}/{rate.provider_model}"):
            exact.setdefault(name, rate)
        by_provider[rate.provider].setdefault(rate.provider_model, rate)
    for rate in rates:
        for name in rate.aliases:
            exact.setdefault(name, rate)
            exact.setdefault(f"{rate.provider}/{name}", rate)
            by_provider[rate.provider].setdefault(name, rate)
        for spelling in {loose_name(rate.model), loose_name(rate.provider_model)}:
            # Two models that share a loose name make it worthless.
            known = loose[rate.provider]
            known[spelling] = rate if known.get(spelling, rate) is rate else None
    return _Names(exact, by_provider, loose)


def _provider_order(rate: Rate) -> int:
    return PROVIDERS.index(rate.provider) if rate.provider in PROVIDERS else len(PROVIDERS)


def _dated(rate: Rate, asked: str) -> str:
    """Return the provider's name of a snapshot that was asked for by `asked`."""
    bare = asked.removeprefix(f"{rate.provider}/")
    vendor = rate.provider_model.rpartition("/")[0]
    return bare if not vendor or bare.startswith(f"{vendor}/") else f"{vendor}/{bare}"


def _start_of(rate: Rate) -> int:
    """Return the first millisecond at which a rate holds; 0 for always."""
    if rate.effective_from is None:
        return 0
    year, month, day = (int(part) for part in rate.effective_from.split("-"))
    return days_since_1970(year, month, day) * _MILLISECONDS_PER_DAY


def days_since_1970(year: int, month: int, day: int) -> int:
    """Return the number of a date in the Gregorian calendar; pure modules know no clock and no `datetime`."""
    # Years that begin in March put the leap day at their end, so that a month's beginning is a plain formula.
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 1 - 719_468


def _current(versions: list[Rate], at_ms: int | None) -> Rate | None:
    started = [rate for rate in versions if at_ms is None or _start_of(rate) <= at_ms or rate.effective_from is None]
    return started[-1] if started else None


def _view(rate: Rate) -> dict[str, object]:
    def price(listed: int) -> int:
        return effective(listed, markup_bps=rate.markup_bps)

    prices = rate.prices
    view: dict[str, object] = {
        "input_per_1m": price(prices.input),
        "output_per_1m": price(prices.output),
        "cache_write_per_1m": price(prices.cache_write_5m),
        "cache_read_per_1m": price(prices.cache_read),
        "cache_write_1h_per_1m": price(prices.cache_write_1h),
        "provider_model": rate.provider_model,
        "context": rate.context,
        "output_max": rate.output_max,
    }
    if (prices.input_audio, prices.output_audio) != (prices.input, prices.output):
        view |= {"input_audio_per_1m": price(prices.input_audio), "output_audio_per_1m": price(prices.output_audio)}
    if rate.tiers:
        view["tiers"] = [
            {
                "above": tier.above,
                "input_per_1m": price(tier.prices.input),
                "output_per_1m": price(tier.prices.output),
                "cache_write_per_1m": price(tier.prices.cache_write_5m),
                "cache_read_per_1m": price(tier.prices.cache_read),
                "cache_write_1h_per_1m": price(tier.prices.cache_write_1h),
            }
            for tier in rate.tiers
        ]
    if rate.service_tiers:
        view["service_tiers_bps"] = dict(rate.service_tiers)
    if rate.fees:
        view["fees"] = {name: price(fee) for name, fee in rate.fees.items()}
    if rate.effective_from:
        view["effective_from"] = rate.effective_from
    if rate.kind != "text":
        view["kind"] = rate.kind
    return view
