"""`level5 migrate`, `level5 verify` and `level5 rebuild`: the books themselves."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli.acts import note
from cli.books import Books, database_url
from cli.options import AsJson, CommandFailed, ConfigFile, Home, Sandbox, on_books, print_json, settings_of
from config.rate_card import price_from_body
from config.reported_prices import estimate_from_body
from ledger.entries import SHARDS
from ledger.errors import BrokenInvariant
from ledger.findings import Report
from ledger.migrate import migrate as apply_migrations
from ledger.money import format_usdc
from ledger.rebuild import rebuild_shard
from ledger.reconcile import verify as verify_books


def migrate(home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """Bring the database up to date. `level5 up` does it by itself."""
    settings = settings_of(home, config, sandbox=sandbox)
    applied = asyncio.run(apply_migrations(database_url(settings)))
    if as_json:
        print_json({"applied": applied})
    else:
        typer.echo("\n".join(f"applied {name}" for name in applied) or "the database is up to date")


def verify(
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="FILE", help="Compare with the chain heads in FILE, then write it anew.", show_default=False),
    ] = None,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Prove that the books are whole, from the first row on, while traffic flows. Exit code 1 when they are not."""

    async def work(books: Books) -> Report:
        try:
            return await verify_books(books.pool, books.balances, price=price_from_body, price_usage=estimate_from_body, checkpoint=checkpoint)
        except (OSError, ValueError) as error:
            raise CommandFailed(f"the checkpoint {checkpoint}: {error}" if checkpoint else str(error)) from error

    report = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json({"whole": report.whole, "findings": report.findings, "checked": report.checked})
    else:
        show_report(report)
    raise typer.Exit(0 if report.whole else 1)


def rebuild(
    shard: Annotated[int, typer.Argument(help="The shard, 0 to 63; findings and logs name it.", min=0, max=SHARDS - 1)],
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Open it although changes are neither in the journal nor in the outbox. They are lost.")
    ] = False,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Write one shard of Redis anew from the journal. The poster does it by itself whenever nothing would be lost."""

    async def work(books: Books) -> bool:
        await note(books, "shard_rebuild", shard=shard, accept_loss=accept_loss)
        try:
            return await rebuild_shard(books.pool, books.balances, shard, reason="operator", accept_loss=accept_loss)
        except BrokenInvariant as error:
            raise CommandFailed(str(error)) from error

    rebuilt = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json({"shard": shard, "rebuilt": rebuilt})
    else:
        typer.echo(f"shard {shard} is rebuilt" if rebuilt else f"shard {shard} is being rebuilt by another process")


def show_report(report: Report) -> None:
    """Print a report for people."""
    typer.echo("checked: " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(report.checked.items())))
    for finding in report.findings:
        money = f" ({format_usdc(finding.difference)} USDC)" if finding.difference else ""
        typer.echo(f"FAULT  {finding.fault}: {finding.text}{money}")
    typer.echo("the books are whole" if report.whole else f"the books are NOT whole: {len(report.findings)} findings (docs/operations.md says what to do)")
