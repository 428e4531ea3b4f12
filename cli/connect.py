"""`level5 connect`: the configuration of a client, to be pasted or written where the client reads it."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from cli.books import Books
from cli.client_files import WrittenFile, fetch_certificate, is_read_by_others, place_of, write_client_file
from cli.options import AsJson, CommandFailed, ConfigFile, Home, Sandbox, flags_of, on_books, print_json, settings_of
from config.clients.catalogue import RECIPES, default_model, recipe_for
from config.clients.connection import PLACEHOLDER, Connection, Door, NotConnected, Provider
from config.clients.recipes import Recipe
from config.clients.showing import as_terminal
from config.clients.writing import write_file, written_files
from config.rate_card import load_rate_card
from config.settings import Settings, load_settings, reachable_host
from ledger.errors import UnknownToken
from ledger.tokens import parse_token
from metering.rates import Rate, UnknownModel

ClientName = Annotated[str, typer.Argument(metavar="CLIENT", help=f"One of {', '.join(RECIPES)}.", show_default=False)]
ForAccount = Annotated[
    str | None,
    typer.Argument(metavar="[ACCOUNT]", help="Its api_token; or its id or deposit code, to make a new token for this client.", show_default=False),
]
TokenText = Annotated[str | None, typer.Option("--token", metavar="TOKEN", help="The api_token.", show_default=False)]
WhichDoor = Annotated[Door, typer.Option("--door", help="By base URL, or through the forward proxy (HTTPS_PROXY).")]
ModelName = Annotated[str | None, typer.Option("--model", metavar="MODEL", help="A model of the rate card.", show_default=False)]
Address = Annotated[str | None, typer.Option("--url", metavar="URL", help="The gateway's address, if not the configured one.", show_default=False)]


def connect(
    client: ClientName,
    account: ForAccount = None,
    token: TokenText = None,
    door: WhichDoor = Door.BASE_URL,
    model: ModelName = None,
    url: Address = None,
    write: Annotated[bool, typer.Option("--write", help="Write it into the client's own files, with a backup.")] = False,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Print how a client is pointed at this gateway, or set it up."""
    if account is not None and token is not None:
        raise CommandFailed("give an ACCOUNT or --token, not both")
    settings = load_settings({**flags_of(home=home, sandbox=sandbox), "public_url": url}, config)
    connection = _connection(settings, door)
    provider, name = _choose_model(settings, client, model)
    connection = replace(connection, provider=provider, model=name)
    recipe = _recipe(client, connection)  # refuses what cannot be done before a token is made for it
    if write:
        _require_writable(recipe, has_token=account is not None or token is not None)
    text = _token_of(client, account, home, config, sandbox=sandbox) if account is not None else _checked(token)
    connection = replace(connection, token=text)
    recipe = _recipe(client, connection)
    written = _write(recipe, connection) if write else ()
    if as_json:
        print_json(_plain(recipe, connection, written))
    elif write:
        _say_written(recipe, written)
    else:
        typer.echo(as_terminal(recipe, connection), nl=False)
        if text == PLACEHOLDER:
            typer.echo(f"\n{PLACEHOLDER} stands for an api_token: name an ACCOUNT, or give --token. POST {connection.origin}/v1/register gives one.")


def _connection(settings: Settings, door: Door) -> Connection:
    """Return where the gateway answers; the certificate is kept beside the user's other settings."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Connection(origin=settings.origin, forward=_forward_address(settings), ca_file=str(folder / "level5" / "ca.pem"), door=door)


def _forward_address(settings: Settings) -> str:
    """Return host:port of the forward proxy: the public host where there is one, for it listens beside the gateway."""
    host = urlsplit(settings.public_url).hostname if settings.public_url else None
    return f"{reachable_host(host or settings.forward.host)}:{settings.forward.port}"


def _choose_model(settings: Settings, client: str, model: str | None) -> tuple[Provider, str]:
    """Return who serves the model that is wanted, and its name on the rate card."""
    if model is None:
        return default_model(client)
    try:
        rate: Rate = load_rate_card(settings.rates).find(model)
    except UnknownModel as error:
        near = f"; did you mean {' or '.join(error.near)}?" if error.near else ""
        raise CommandFailed(f"{model} has no price here{near} (`level5 prices show` lists all)") from error
    providers: dict[str, Provider] = {"anthropic": "anthropic", "openai": "openai", "openrouter": "openrouter"}
    return providers[rate.provider], rate.model


def _recipe(client: str, connection: Connection) -> Recipe:
    try:
        return recipe_for(client, connection)
    except NotConnected as error:
        raise CommandFailed(str(error)) from error


def _require_writable(recipe: Recipe, *, has_token: bool) -> None:
    if not recipe.can_be_written:
        raise CommandFailed(f"{recipe.title} is set up by hand; without --write this command says how")
    if not has_token:
        raise CommandFailed("--write needs an ACCOUNT, or an api_token by --token")


def _checked(token: str | None) -> str:
    if token is None:
        return PLACEHOLDER
    try:
        parse_token(token)
    except UnknownToken as error:
        raise CommandFailed("this is no api_token: one begins with l5_ and is copied whole") from error
    return token


def _token_of(client: str, account: str, home: Home, config: ConfigFile, *, sandbox: bool | None) -> str:
    """Return an api_token as it is, or a new one of the account, which can be revoked without touching other clients."""
    if account.startswith("l5_"):
        return _checked(account)

    async def work(books: Books) -> str:
        found = await books.accounts.find(account)
        text, _ = await books.accounts.create_token(found, client)
        return text

    return on_books(settings_of(home, config, sandbox=sandbox), work)


def _write(recipe: Recipe, connection: Connection) -> tuple[WrittenFile, ...]:
    certificate = (fetch_certificate(connection.origin, Path(connection.ca_file)),) if recipe.needs_certificate else ()
    return (*certificate, *(write_client_file(file, os.environ) for file in written_files(recipe)))


def _say_written(recipe: Recipe, written: Sequence[WrittenFile]) -> None:
    for one in written:
        backup = f" (what it said before: {one.backup})" if one.backup else ""
        typer.echo(f"{one.path} is written{backup}" if one.changed else f"{one.path} says so already")
        if one.path.suffix != ".pem" and is_read_by_others(one.path):
            typer.echo(f"  others on this machine can read the api_token in it: chmod 600 {one.path}")
    if recipe.environment:
        typer.echo(f"Before {recipe.title} is started: . {written[-1].path}")
    if recipe.try_it:
        typer.echo(f"Try it: {recipe.try_it}")


def _plain(recipe: Recipe, connection: Connection, written: Sequence[WrittenFile]) -> dict[str, object]:
    files = [{"path": str(place_of(file, os.environ)), "format": file.format.value, "text": write_file(file)} for file in recipe.files]
    return {
        "client": recipe.client,
        "door": connection.door.value,
        "model": connection.model,
        "api_token": connection.token,
        "files": files,
        "environment": dict(recipe.environment),
        "certificate": {"url": f"{connection.origin}/ca.pem", "path": connection.ca_file} if recipe.needs_certificate else None,
        "program": recipe.program,
        "by_hand": list(recipe.by_hand),
        "try_it": recipe.try_it,
        "notes": list(recipe.notes),
        "written": list(written),
    }
