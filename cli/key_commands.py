"""`level5 keys …`, also `plutus keys …`: the ingest keys by which agents report usage to an organisation."""

from datetime import datetime
from typing import Annotated

import typer

from cli.acts import note
from cli.books import Books
from cli.options import AsJson, CommandFailed, ConfigFile, Home, Sandbox, on_books, print_fields, print_json, print_table, settings_of
from ledger.account_values import Account
from ledger.console_reads import owner_of
from ledger.errors import UnknownKey
from ledger.ingest_values import KeyRow, NewKey
from ledger.keys import Keys
from ledger.organisations import DEFAULT_NAME, default_organisation, find_organisation

keys_app = typer.Typer(help="Make, show and revoke the keys by which agents report usage.", no_args_is_help=True)

Organisation = Annotated[
    str | None,
    typer.Option(
        "--org", metavar="ORG", help=f"Whose: org_… id, name, deposit code or api_token; without it the organisation {DEFAULT_NAME!r}.", show_default=False
    ),
]


async def organisation_of(books: Books, name: str | None) -> Account:
    """Return the organisation that is named, or the one that every installation has."""
    if name is None:
        return await default_organisation(books.pool, books.accounts)
    return await find_organisation(books.pool, books.accounts, name)


@keys_app.command("create")
def create(
    name: Annotated[str | None, typer.Option("--name", help="What it is for.", show_default=False)] = None,
    org: Organisation = None,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print its secret, this once."""

    async def work(books: Books) -> tuple[Account, NewKey]:
        account = await organisation_of(books, org)
        await note(books, "ingest_key_create", account=account.public_id, name=name)
        try:
            return account, await Keys(books.pool, books.balances).create(account, name)
        except ValueError as error:
            raise CommandFailed(str(error)) from error

    account, made = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json({"id": made.key_id, "org_id": account.public_id, "name": name, "prefix": made.prefix, "secret": made.text})
        return
    print_fields([("key", made.key_id), ("organisation", f"{account.public_id} ({account.name or '-'})"), ("secret", f"{made.text}   (shown this once)")])


@keys_app.command("list")
def list_keys(
    org: Organisation = None,
    everything: Annotated[bool, typer.Option("--all", help="Revoked ones too.")] = False,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """List the keys of an organisation; their secrets are not kept anywhere."""

    async def work(books: Books) -> list[KeyRow]:
        return await Keys(books.pool, books.balances).list(await organisation_of(books, org))

    found = [row for row in on_books(settings_of(home, config, sandbox=sandbox), work) if everything or row.revoked_at is None]
    if as_json:
        print_json([_plain(row) for row in found])
    elif not found:
        typer.echo("no keys")
    else:
        rows = [(row.key_id, f"{row.prefix}…", row.name or "-", _minute(row.created_at), _minute(row.last_used_at), _minute(row.revoked_at)) for row in found]
        print_table(("id", "key", "name", "created", "last used", "revoked"), rows)


@keys_app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="key_…, from `keys list`.", show_default=False)],
    org: Organisation = None,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Refuse a key from now on."""

    async def work(books: Books) -> None:
        account = None if org is None else await find_organisation(books.pool, books.accounts, org)
        owner = await owner_of(books.pool, key)
        if owner and (account is None or account.public_id == owner):
            await note(books, "ingest_key_revoke", account=owner, key=key)
        try:
            await Keys(books.pool, books.balances).revoke(key, account)
        except UnknownKey:
            raise CommandFailed(f"no key {key!r}{'' if org is None else ' of this organisation'}; `keys list` shows them") from None

    on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json({"id": key, "status": "revoked"})
    else:
        typer.echo(f"{key} is revoked")


def _plain(row: KeyRow) -> dict[str, object]:
    return {
        "id": row.key_id, "name": row.name, "prefix": row.prefix, "created_at": row.created_at, "last_used_at": row.last_used_at,
        "revoked_at": row.revoked_at,
    }  # fmt: skip


def _minute(at: datetime | None) -> str:
    return "-" if at is None else at.strftime("%Y-%m-%d %H:%M")
