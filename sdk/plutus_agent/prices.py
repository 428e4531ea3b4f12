"""The price table of local mode: list prices, as the gateway's rate card had them when this package was made."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from plutus_agent.amounts import MICROUNITS, usd_text

_DATE = re.compile(r"[-@](20\d{6}|20\d\d-\d\d-\d\d|[01]\d[0-3]\d)$")
_MILLION = 1_000_000
# Other names under which clients know a provider.
_PROVIDERS = {"gemini": "google", "google-gla": "google", "google-vertex": "google", "grok": "xai", "x-ai": "xai", "mistralai": "mistral"}


@dataclass(frozen=True, slots=True)
class Prices:
    """Microunits per million tokens."""

    input: int
    output: int
    cache_write_5m: int
    cache_write_1h: int
    cache_read: int
    reasoning: int

    @staticmethod
    def of(row: Sequence[int]) -> "Prices":
        """Read a row of the table; reasoning is output."""
        plain, output, short, long, read = row
        return Prices(plain, output, short, long, read, output)

    def cost(self, tokens: Mapping[str, int]) -> int:
        """Return the cost of an event in microunits, rounded up once."""
        written, long = tokens["cache_write_tokens"], min(tokens["cache_write_1h_tokens"], tokens["cache_write_tokens"])
        total = (
            tokens["input_tokens"] * self.input
            + tokens["output_tokens"] * self.output
            + tokens["reasoning_tokens"] * self.reasoning
            + tokens["cache_read_tokens"] * self.cache_read
            + (written - long) * self.cache_write_5m
            + long * self.cache_write_1h
        )
        return -(-total // _MILLION)


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((Path(__file__).parent / "prices.json").read_text(encoding="utf-8"))
    return table


@lru_cache(maxsize=32)
def _names(provider: str) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = _table()["models"].get(provider, {})
    names = {name.lower(): row for row in rows.values() for name in row.get("names", ())}
    return names | {model.lower(): row for model, row in rows.items()}


def _find(provider: str, model: str) -> dict[str, Any] | None:
    name = model.lower().removeprefix(f"{provider}/")
    names = _names(provider)
    for spelling in (name, name.split(":", 1)[0], _DATE.sub("", name), _DATE.sub("", name).replace(".", "-")):
        if spelling in names:
            return names[spelling]
    return None


def estimate(provider: str, model: str | None, tokens: Mapping[str, int], *, overrides: Mapping[str, Any]) -> tuple[int, bool]:
    """Return the cost of an event in microunits and whether it is unpriced: guessed from its provider's usual model, or from nothing.

    `overrides` are prices of one's own, `{provider: {model: {"input": USD per million, "output": …, "cache_read": …}}}`.
    """
    own = overrides.get(provider.lower(), {}).get(model or "")
    if own is not None:
        return _own_prices(own).cost(tokens), False
    table, provider = _table(), _PROVIDERS.get(provider.lower(), provider.lower())
    row = _find(provider, model) if model else None
    priced = row is not None
    if row is None and provider in table["defaults"]:
        row = _find(provider, table["defaults"][provider])
    if row is None:
        return Prices.of(table["fallback"]).cost(tokens), True
    return Prices.of(_prices_for(row, tokens)).cost(tokens), not priced


def _prices_for(row: Mapping[str, Any], tokens: Mapping[str, int]) -> Sequence[int]:
    """Return the prices of a request with so much input, cached or not."""
    chosen: Sequence[int] = row["prices"]
    total = tokens["input_tokens"] + tokens["cache_read_tokens"] + tokens["cache_write_tokens"]
    for above, *prices in row.get("tiers", ()):
        if total > above:
            chosen = prices
    return chosen


def _own_prices(own: Mapping[str, Any]) -> Prices:
    def price(name: str, otherwise: int) -> int:
        value = own.get(name)
        return otherwise if value is None else -(-Fraction(usd_text(value)) * MICROUNITS // 1)

    plain, output = price("input", 0), price("output", 0)
    written = price("cache_write", plain)
    return Prices(
        input=plain,
        output=output,
        cache_write_5m=written,
        cache_write_1h=price("cache_write_1h", written),
        cache_read=price("cache_read", plain),
        reasoning=price("reasoning", output),
    )
