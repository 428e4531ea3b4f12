"""`level5 migrate` and `level5 verify`: the books themselves."""

import asyncio

import typer

from cli.books import database_url
from cli.options import AsJson, ConfigFile, Home, Sandbox, print_json, settings_of
from ledger.migrate import migrate as apply_migrations


def migrate(home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """Bring the database up to date. `level5 up` does it by itself."""
    settings = settings_of(home, config, sandbox=sandbox)
    applied = asyncio.run(apply_migrations(database_url(settings)))
    if as_json:
        print_json({"applied": applied})
    else:
        typer.echo("\n".join(f"applied {name}" for name in applied) or "the database is up to date")
