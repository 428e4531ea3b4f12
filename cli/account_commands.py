"""`level5 accounts …`, `level5 tokens …` and `level5 credit`: who may spend, and what they have."""

from dataclasses import fields
from typing import Annotated

import typer

from cli.acts import COMMAND_LINE, note
from cli.books import Books
from cli.options import AccountName, AsJson, CommandFailed, ConfigFile, Home, Sandbox, as_plain, on_books, print_fields, print_json, print_table, settings_of
from ledger.accounts import Account, Credit, NewAccount, Token
from ledger.console_reads import owner_of
from ledger.errors import TooManyTokens, UnknownToken
from ledger.money import format_usdc, parse_usdc
from ledger.tokens import TokenScope

accounts_app = typer.Typer(help="Show, open, suspend and close accounts.", no_args_is_help=True)
tokens_app = typer.Typer(help="Show, make and revoke the api_tokens of an account.", no_args_is_help=True)


def _not_blank(reason: str) -> str:
    if not reason.strip():
        raise CommandFailed("say why: the reason is kept in the books")
    return reason


Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the books.", show_default=False, callback=_not_blank)]


def read_amount(text: str) -> int:
    """Return the microunits that an operator typed as USDC.

    Raises:
        CommandFailed: it is no amount.
    """
    try:
        return parse_usdc(text)
    except ValueError as error:
        raise CommandFailed(str(error)) from error


def show_account(account: Account) -> None:
    """Print one account for people."""
    line = "by rule" if account.line is None else f"{format_usdc(account.line)} USDC"
    print_fields(
        [
            ("id", account.id),
            ("organisation", account.public_id),
            ("name", account.name or "-"),
            ("tier", account.tier),
            ("status", account.status),
            ("deposit code", account.deposit_code),
            ("balance", f"{format_usdc(account.balance)} USDC"),
            ("charged so far", f"{format_usdc(account.charged)} USDC"),
            ("line", line),
            ("opened", account.created_at),
        ]
    )


async def all_accounts(books: Books) -> list[Account]:
    """Return every account, page by page."""
    found: list[Account] = []
    while page := await books.accounts.list(after=found[-1].id if found else 0):
        found.extend(page)
    return found


@accounts_app.command("list")
def list_accounts(home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """List all accounts with the balances the journal has."""
    found = on_books(settings_of(home, config, sandbox=sandbox), all_accounts)
    if as_json:
        print_json(found)
        return
    rows = [(one.id, one.deposit_code, one.name or "-", one.tier, one.status, format_usdc(one.balance)) for one in found]
    print_table(("id", "deposit code", "name", "tier", "status", "USDC"), rows)


@accounts_app.command("show")
def show(account: AccountName, home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """Show one account."""
    found = on_books(settings_of(home, config, sandbox=sandbox), lambda books: books.accounts.find(account))
    if as_json:
        print_json(found)
    else:
        show_account(found)


@accounts_app.command("create")
def create(
    name: Annotated[str | None, typer.Option("--name", help="What you call it.", show_default=False)] = None,
    tier: Annotated[str, typer.Option("--tier", help="Its plan.")] = "free",
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Open an account and print its api_token, which is shown this once."""

    async def work(books: Books) -> NewAccount:
        await note(books, "account_create", name=name, tier=tier)
        return await books.accounts.create(name=name, tier=tier)

    made = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json({**_account_fields(made.account), "api_token": made.api_token, "token_id": made.token_id})
        return
    show_account(made.account)
    print_fields([("api_token", f"{made.api_token}   (shown this once; {made.token_id})")])


def _account_fields(account: Account) -> dict[str, object]:
    return {one.name: getattr(account, one.name) for one in fields(account)}


def _set_status(account: str, status: str, reason: str, *, home: Home, config: ConfigFile, sandbox: Sandbox, as_json: bool) -> None:
    async def work(books: Books) -> Account:
        found = await books.accounts.find(account)
        await note(books, "account_status", account=found.public_id, before=found.status, status=status, reason=reason)
        await books.accounts.set_status(found, status, reason)
        return await books.accounts.find(str(found.id))

    changed = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json(changed)
    else:
        typer.echo(f"account {changed.id} is {changed.status}")


@accounts_app.command("suspend")
def suspend(account: AccountName, reason: Reason, home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """Refuse an account's requests until it is resumed; its balance stays."""
    _set_status(account, "suspended", reason, home=home, config=config, sandbox=sandbox, as_json=as_json)


@accounts_app.command("resume")
def resume(account: AccountName, reason: Reason, home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """Let a suspended account spend again."""
    _set_status(account, "active", reason, home=home, config=config, sandbox=sandbox, as_json=as_json)


@accounts_app.command("close")
def close(account: AccountName, reason: Reason, home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """Close an account; what it owns stays in the books."""
    _set_status(account, "closed", reason, home=home, config=config, sandbox=sandbox, as_json=as_json)


@accounts_app.command("tier")
def set_tier(
    account: AccountName,
    tier: Annotated[str, typer.Argument(metavar="TIER", help="free, pro, team or enterprise.", show_default=False)],
    reason: Reason,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Set what an account may report a month, and how many workspaces it has."""
    settings = settings_of(home, config, sandbox=sandbox)
    if tier not in settings.tiers.names:
        raise CommandFailed(f"a tier is one of {', '.join(settings.tiers.names)}")

    async def work(books: Books) -> Account:
        found = await books.accounts.find(account)
        await note(books, "account_tier", account=found.public_id, before=found.tier, tier=tier, reason=reason)
        await books.accounts.set_tier(found, tier, reason)
        return await books.accounts.find(str(found.id))

    changed = on_books(settings, work)
    if as_json:
        print_json(changed)
    else:
        typer.echo(f"account {changed.id} has tier {changed.tier}")


@accounts_app.command("line")
def line(
    account: AccountName,
    usdc: Annotated[str, typer.Argument(metavar="USDC|rule", help="How far below zero it may go to finish a stream; `rule` for the general rule.")],
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Set an account's line, or give it back to the general rule."""
    amount = None if usdc == "rule" else read_amount(usdc)
    if amount is not None and amount < 0:
        raise CommandFailed("a line is 0 or more USDC")

    async def work(books: Books) -> Account:
        found = await books.accounts.find(account)
        await note(books, "account_line", account=found.public_id, before=found.line, line=amount)
        await books.accounts.set_line(found, amount)
        return await books.accounts.find(str(found.id))

    changed = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json(changed)
    else:
        typer.echo(f"account {changed.id} has a line of {'the general rule' if changed.line is None else format_usdc(changed.line) + ' USDC'}")


def credit(
    account: AccountName,
    usdc: Annotated[str, typer.Argument(metavar="USDC", help="Amount, such as 12.50.", show_default=False)],
    reason: Reason,
    key: Annotated[str | None, typer.Option("--key", help="Name of this credit: given again, nothing more is credited.", show_default=False)] = None,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Credit an account by hand."""
    amount = read_amount(usdc)
    if amount <= 0:
        raise CommandFailed("a credit is more than 0 USDC")

    async def work(books: Books) -> tuple[Account, Credit]:
        found = await books.accounts.find(account)
        await note(books, "account_credit", account=found.public_id, amount=amount, reason=reason, key=key)
        return found, await books.accounts.credit(found, amount, reason=reason, actor=COMMAND_LINE, key=key)

    found, made = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json({"account": found.id, "deposit_code": found.deposit_code, **as_plain(made)})
        return
    if made.balance_after is None:
        typer.echo(f"{made.key} was credited before; nothing was added")
    else:
        typer.echo(f"{format_usdc(amount)} USDC credited to account {found.id}; its balance is {format_usdc(made.balance_after)} USDC")
    if not made.applied:
        typer.echo("it can be spent as soon as Redis answers again")


@tokens_app.command("create")
def create_token(
    account: AccountName,
    name: Annotated[str | None, typer.Option("--name", help="What it is for.", show_default=False)] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="It may look at the account, and neither spend nor change anything.")] = False,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Make one more api_token for an account and print it, this once."""
    scope = TokenScope.READ_ONLY if read_only else TokenScope.FULL

    async def work(books: Books) -> tuple[str, str]:
        found = await books.accounts.find(account)
        await note(books, "token_create", account=found.public_id, name=name, scope=scope.value)
        try:
            return await books.accounts.create_token(found, name, scope=scope)
        except (TooManyTokens, ValueError) as error:
            raise CommandFailed(str(error)) from error

    text, token_id = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json({"api_token": text, "token_id": token_id, "scope": scope.value})
    else:
        print_fields([("token", token_id), ("api_token", f"{text}   (shown this once)")])


@tokens_app.command("list")
def list_tokens(account: AccountName, home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """List an account's tokens; their secrets are not kept anywhere."""

    async def work(books: Books) -> list[Token]:
        return list(await books.accounts.list_tokens(await books.accounts.find(account)))

    found = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json([{name: value for name, value in as_plain(one).items() if name != "digest"} for one in found])
        return
    rows = [
        (one.token_id, f"…{one.hint}" if one.hint else "-", one.name or "-", one.scope.replace("_", "-"), one.created_at, one.revoked_at or "-")
        for one in found
    ]
    print_table(("token", "ends in", "name", "scope", "created", "revoked"), rows)


@tokens_app.command("revoke")
def revoke_token(
    token: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="tok_…, from `level5 tokens list`.", show_default=False)],
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Refuse a token from now on."""

    async def work(books: Books) -> None:
        if owner := await owner_of(books.pool, token):
            await note(books, "token_revoke", account=owner, token=token)
        try:
            await books.accounts.revoke_token(token)
        except UnknownToken:
            raise CommandFailed(f"no token {token!r}; `tokens list` shows them") from None

    on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json({"token_id": token, "status": "revoked"})
    else:
        typer.echo(f"{token} is revoked")
