"""`level5 admin …`: one-time links into the operator's console, and the sessions that are open there."""

from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

import typer

from cli.acts import COMMAND_LINE, typed_by, user_name
from cli.books import Books
from cli.options import AsJson, CommandFailed, ConfigFile, Home, Sandbox, on_books, print_json, print_table, settings_of
from config.sections import is_loopback_host
from config.settings import Settings, reachable_host
from ledger.console_sessions import LINK_NAME_LENGTH_MAX, ConsoleSession, ConsoleSessions

admin_app = typer.Typer(help="Sign in to the operator's console, and see or end its sessions.", no_args_is_help=True)


@admin_app.command("login")
def login(
    name: Annotated[str | None, typer.Option("--name", help="Who signs in, for the audit; without it your user name here.", show_default=False)] = None,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Make a link that signs one browser in to the console, once, within minutes. Whoever has it may use it."""
    settings, who = settings_of(home, config, sandbox=sandbox), checked_who(name or user_name())
    seconds = settings.admin.link_minutes * 60

    async def work(books: Books) -> tuple[str, datetime]:
        return await ConsoleSessions(books.pool).make_link(who, seconds=seconds, detail={"by": COMMAND_LINE, **typed_by()})

    secret, expires_at = on_books(settings, work)
    address = f"{console_origin(settings)}/admin/link/{secret}"
    if as_json:
        print_json({"url": address, "name": who, "expires_at": expires_at})
        return
    typer.echo(f"{address}\n\nIt signs one browser in as {who}, once, until {expires_at:%H:%M:%S} UTC.")


@admin_app.command("sessions")
def sessions(home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """List who is signed in to the console."""
    settings = settings_of(home, config, sandbox=sandbox)

    async def work(books: Books) -> list[ConsoleSession]:
        return await ConsoleSessions(books.pool).list(idle_seconds=settings.admin.idle_minutes * 60)

    found = on_books(settings, work)
    if as_json:
        print_json(found)
    elif not found:
        typer.echo("nobody is signed in")
    else:
        rows = [(one.id, one.actor, one.issuer or "a link", one.network, f"{one.created_at:%Y-%m-%d %H:%M}", f"{one.seen_at:%Y-%m-%d %H:%M}") for one in found]
        print_table(("session", "who", "by", "from", "signed in (UTC)", "last seen"), rows)


@admin_app.command("logout")
def logout(home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """Sign everybody out of the console, and spend all links that were not used."""

    async def work(books: Books) -> None:
        await ConsoleSessions(books.pool).end_everybodys(by=COMMAND_LINE, detail=typed_by())

    on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json({"status": "signed out"})
    else:
        typer.echo("everybody is signed out of the console")


def console_origin(settings: Settings) -> str:
    """Return where the console is opened: at the public address where that is safe, else on this machine alone.

    Raises:
        CommandFailed: it can be opened nowhere.
    """
    public = urlsplit(settings.origin)
    if public.scheme == "https" or is_loopback_host(public.hostname or ""):
        return settings.origin
    host = reachable_host(settings.control.host)
    if is_loopback_host(host.strip("[]")):
        return f"http://{host}:{settings.control.port}"
    raise CommandFailed(
        f"the console is not shown at {settings.origin}, which is not encrypted: set LEVEL5_PUBLIC_URL to an https:// address, "
        "or LEVEL5_CONTROL__HOST to 127.0.0.1 and open it through a tunnel"
    )


def checked_who(name: str) -> str:
    """Return a name that the audit can bear.

    Raises:
        CommandFailed: it is too long, or has characters that cannot be printed.
    """
    name = name.strip()
    if not name or len(name) > LINK_NAME_LENGTH_MAX or not name.isprintable():
        raise CommandFailed(f"a name is 1 to {LINK_NAME_LENGTH_MAX} printable characters")
    return name
