"""Write the price table of local mode from the project's rate card: `python sdk/generate_prices.py`, from the repository."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).resolve().parent / "plutus_agent" / "prices.json"


def _row(prices: Any) -> list[int]:
    return [prices.input, prices.output, prices.cache_write_5m, prices.cache_write_1h, prices.cache_read]


def price_table(path: Path | None = None) -> str:
    """Return the table as text: list prices in microunits per million tokens (input, output, cache writes of 5 minutes and 1 hour, cache read)."""
    from config.rate_card import load_rate_card

    card = load_rate_card(path)
    models: dict[str, dict[str, Any]] = {}
    for rate in card.all_with_reported():
        names = sorted({rate.provider_model, *rate.aliases} - {rate.model})
        tiers = [[tier.above, *_row(tier.prices)] for tier in rate.tiers]
        row: dict[str, Any] = {"prices": _row(rate.prices)} | ({"names": names} if names else {}) | ({"tiers": tiers} if tiers else {})
        models.setdefault(rate.provider, {}).setdefault(rate.model, row)
    lines = [f"{json.dumps(provider)}: {{\n{_lines(rows)}\n}}" for provider, rows in sorted(models.items())]
    head = f'"fallback": {json.dumps(_row(card.reported.fallback))},\n"defaults": {json.dumps(dict(sorted(card.reported.defaults.items())))},\n'
    return "{\n" + head + '"models": {\n' + ",\n".join(lines) + "\n}\n}\n"


def _lines(rows: dict[str, Any]) -> str:
    return ",\n".join(f"  {json.dumps(model)}: {json.dumps(row)}" for model, row in sorted(rows.items()))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    TABLE.write_text(price_table())
