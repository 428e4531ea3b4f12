"""Writing rows of a rate card as text that people read, below the rows that people wrote."""

import re
from collections.abc import Iterable
from typing import Any

from config.published_prices import REPORTED_PROVIDERS, PublishedModel
from config.rate_card import REPORTED, parse_rate_card
from metering.rate_cards import RateCard, strip_date
from metering.rates import UnknownModel

IMPORT_MARK = "# ==== imported by `level5 prices import`: everything below is written anew by it ===="
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ORDER = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read", "input_audio", "output_audio", "context", "output_max")


def written_rows(text: str) -> str:
    """Return the part of a rate card that people wrote."""
    return text.split(IMPORT_MARK, 1)[0].rstrip() + "\n"


def imported_rows(text: str, *, but_of: str) -> list[str]:
    """Return the rows that were imported earlier, those of one provider left out."""
    rows = text.partition(IMPORT_MARK)[2].strip().split("\n\n")
    return [row + "\n" for row in rows if row and not row.startswith((f"[{but_of}.", f"[{REPORTED}.{but_of}."))]


def merge(text: str, models: Iterable[PublishedModel], *, only: str | None = None) -> tuple[str, int]:
    """Return the rate card with published models below the written rows, and how many they are.

    No row that people wrote is changed, and none of its names is given to another. With `only`,
    the rows that were imported earlier for other providers stay.
    """
    written = written_rows(text)
    card = parse_rate_card(written)
    kept = imported_rows(text, but_of=only) if only is not None else []
    added = [render(model) for model in models if model.left_out is None and not _known(card, model)]
    return written + "\n" + IMPORT_MARK + "\n\n" + "\n".join([*kept, *added]), len(added)


def _known(card: RateCard, model: PublishedModel) -> bool:
    rates = card.reported.rates if model.provider in REPORTED_PROVIDERS else card
    for name in (model.name, *model.row.get("aliases", ())):
        try:
            if rates is None:
                return False
            found = rates.find(name, provider=model.provider)
        except UnknownModel:
            continue
        if name in (found.model, *found.aliases) or (name == found.provider_model and strip_date(name) == name):
            return True
    return False


def render(model: PublishedModel) -> str:
    """Return one row as TOML."""
    section = f"{REPORTED}.{model.provider}" if model.provider in REPORTED_PROVIDERS else model.provider
    lines = [f"[{section}.{_key(model.name)}]"]
    rest = [name for name in model.row if name not in _ORDER]
    lines += [f"{name} = {_value(model.row[name])}" for name in (*_ORDER, *rest) if name in model.row]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if _PLAIN_KEY.fullmatch(name) else f'"{name}"'


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return "{ " + ", ".join(f"{_key(name)} = {_value(one)}" for name, one in value.items()) + " }"
