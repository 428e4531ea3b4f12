"""`level5 prices`: what models cost, whether that is still what is published, and new models for the card."""

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.options import AsJson, print_json
from config.price_drift import Difference, differences
from config.published_prices import REPORTED_PROVIDERS, PublishedModel, published_models
from config.rate_card import RateCardError, load_rate_card, parse_rate_card, shipped_rate_card
from config.rate_card_text import merge
from metering.rate_cards import PROVIDERS
from metering.rates import Rate, effective

app = typer.Typer(help="Prices: the rate card and the published lists.", no_args_is_help=True)

RatesFile = Annotated[Path | None, typer.Option("--rates", envvar="LEVEL5_RATES", metavar="FILE", help="Another rate card.", show_default=False)]


LISTED = (*PROVIDERS, *REPORTED_PROVIDERS)


def _known_provider(name: str | None) -> str | None:
    if name is not None and name not in LISTED:
        raise typer.BadParameter(f"choose one of {', '.join(LISTED)}")
    return name


ProviderName = Annotated[
    str | None, typer.Option("--provider", callback=_known_provider, metavar="NAME", help=f"Only one of {', '.join(LISTED)}.", show_default=False)
]


@app.command("show")
def show(
    name: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Only models whose name contains this.", show_default=False)] = None,
    provider: ProviderName = None,
    rates: RatesFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what customers pay, mark-up included, in USD per million tokens. A provider that is only reported shows when it is named."""
    card = load_rate_card(rates)
    wanted = card.all() if provider in (None, *PROVIDERS) else card.all_with_reported()
    chosen = [rate for rate in wanted if provider in (None, rate.provider) and (name or "") in f"{rate.provider}/{rate.model}"]
    if as_json:
        view = card.pricing_view() | (card.reported.rates.pricing_view() if card.reported.rates is not None else {})
        print_json({"rate_card": card.hash, "pricing": {key: view[key] for key in (f"{rate.provider}/{rate.model}" for rate in chosen)}})
        return
    table = Table(box=None, pad_edge=False, header_style="bold", caption=f"{len(chosen)} models, rate card {card.hash[:12]}", caption_justify="left")
    table.add_column("model", no_wrap=True)
    for column in ("input", "output", "cache write", "1 hour", "cache read"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("markup", "notes"):
        table.add_column(column, no_wrap=True)
    for rate in chosen:
        table.add_row(*_cells(rate))
    _print_whole(table)


def _print_whole(table: Table) -> None:
    """Print a table as wide as it is: a price that is cut off helps nobody."""
    console = Console(highlight=False, markup=False, emoji=False, width=400)
    console.width = max(console.measure(table).maximum, 40)
    console.print(table, crop=False, overflow="ignore")


def _cells(rate: Rate) -> tuple[str, ...]:
    prices = rate.prices
    listed = (prices.input, prices.output, prices.cache_write_5m, prices.cache_write_1h, prices.cache_read)
    notes = [f"above {tier.above:,}: {_usd(rate, tier.prices.input)}/{_usd(rate, tier.prices.output)}" for tier in rate.tiers]
    notes += [f"from {rate.effective_from}"] if rate.effective_from else []
    notes += [rate.kind] if rate.kind != "text" else []
    return (f"{rate.provider}/{rate.model}", *(_usd(rate, price) for price in listed), f"{rate.markup_bps / 100:g} %", "; ".join(notes))


def _usd(rate: Rate, price: int) -> str:
    charged = effective(price, markup_bps=rate.markup_bps)
    whole, rest = divmod(charged, 1_000_000)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{digits}"


@app.command("check")
def check(rates: RatesFile = None, provider: ProviderName = None, as_json: AsJson = False) -> None:
    """Compare the rate card with the published list prices; exit code 1 when one differs."""
    card = load_rate_card(rates)
    found = [one for one in differences(card) if provider in (None, one.provider)]
    drift = [one for one in found if not one.accepted]
    compared = sum(1 for rate in card.all() if provider in (None, rate.provider))
    if as_json:
        accepted = [asdict(one) for one in found if one.accepted]
        print_json({"rate_card": card.hash, "models": compared, "drift": [asdict(one) for one in drift], "accepted": accepted})
    else:
        _print_check(found, drift, compared)
    if drift:
        raise typer.Exit(1)


def _print_check(found: list[Difference], drift: list[Difference], compared: int) -> None:
    if found:
        rows = [(f"{one.provider}/{one.model}", one.field, one.card, one.published, "as specified" if one.accepted else "DRIFT") for one in found]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("model", "price", "rate card", "published", ""):
            table.add_column(column, no_wrap=True)
        for row in rows:
            table.add_row(*row)
        _print_whole(table)
    models = len({(one.provider, one.model) for one in drift})
    typer.echo(f"{compared} models compared; {models} differ." if drift else f"{compared} models compared; none differs unexpectedly.")


@app.command("import")
def import_prices(
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write; - prints it.", show_default=False)] = None,
    rates: RatesFile = None,
    provider: ProviderName = None,
    as_json: AsJson = False,
) -> None:
    """Add the published models to a rate card, below the rows that people wrote, which stay as they are."""
    source = rates or shipped_rate_card()
    text = load_rate_card(source).body
    models = [model for one in LISTED if provider in (None, one) for model in published_models(one)]
    merged, count = merge(text, models, only=provider)
    parse_rate_card(merged)
    if output == Path("-"):
        typer.echo(merged, nl=False)
        return
    place = output or source
    _write(place, merged)
    left_out = [model for model in models if model.left_out is not None]
    if as_json:
        reasons = [{"provider": one.provider, "model": one.name, "reason": one.left_out} for one in left_out]
        print_json({"file": str(place), "imported": count, "left_out": reasons})
    else:
        typer.echo(f"{place}: {count} models imported, {len(left_out)} left out ({_reasons(left_out)}).")


def _reasons(left_out: list[PublishedModel]) -> str:
    counts: dict[str, int] = {}
    for model in left_out:
        reason = model.left_out or ""
        counts[reason] = counts.get(reason, 0) + 1
    return "; ".join(f"{times} because {reason}" for reason, times in sorted(counts.items(), key=lambda item: -item[1])[:3]) or "nothing"


def _write(place: Path, text: str) -> None:
    """Replace a file whole, so that no half-written rate card is ever read."""
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=place.parent, prefix=f".{place.name}.", delete=False) as file:
            file.write(text)
        mode = place.stat().st_mode & 0o777 if place.exists() else 0o644
        os.chmod(file.name, mode)  # noqa: PTH101
        os.replace(file.name, place)  # noqa: PTH105
    except OSError as error:
        raise RateCardError(f"{place} cannot be written: {error.strerror}") from error
