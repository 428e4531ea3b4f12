"""`level5 deposits …`: what arrived in the vault on chain, whose it is, and what nobody was named for."""

from datetime import datetime
from typing import Annotated, Literal

import typer

from cli.account_commands import Reason
from cli.acts import COMMAND_LINE, note
from cli.books import Books
from cli.options import AccountName, AsJson, CommandFailed, ConfigFile, Home, Sandbox, as_plain, on_books, print_fields, print_json, print_table, settings_of
from ledger.accounts import Account, Credit
from ledger.asides import SENTENCES
from ledger.deposit_values import Deposit, Vault
from ledger.deposits import Deposits
from ledger.errors import InactiveAccount, NoVault
from ledger.money import format_usdc

deposits_app = typer.Typer(help="Show what arrived on chain, and give to its owner what named nobody.", no_args_is_help=True)

State = Literal["aside", "due", "credited"]
Signature = Annotated[str, typer.Argument(metavar="SIGNATURE", help="Signature of the transaction that paid.", show_default=False)]

SOURCES = {
    "memo": "Its memo names the account.",
    "inner_memo": "The memo within a smart wallet's call names the account.",
    "reference": "Its Solana Pay reference names the account.",
    "event": "The deposit program's event names the account.",
    "operator": "An operator assigned it.",
    "claim": "Its sender claimed it, by the sending wallet's signature.",
}
PAGE = 500


def sentence_of(deposit: Deposit) -> str:
    """Say why a deposit is nobody's, or by what it is somebody's."""
    if deposit.state == "aside":
        return SENTENCES.get(deposit.aside, deposit.aside)
    return SOURCES.get(deposit.source, deposit.source)


@deposits_app.command("list")
def list_deposits(
    state: Annotated[State | None, typer.Option("--state", help="Only those set aside, about to be credited, or credited.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", help="How many at most, newest first.", min=1)] = 50,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """List deposits, newest first. Those that named nobody are in the state `aside`."""

    async def work(books: Books) -> list[Deposit]:
        deposits, found = Deposits(books.pool, books.balances), list[Deposit]()
        while len(found) < limit:
            page = await deposits.list(state=state, before=found[-1].id if found else None, limit=min(PAGE, limit - len(found)))
            found += page
            if not page:
                break
        return found

    found = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json(found)
        return
    rows = [(_when(one), format_usdc(one.amount), one.state, one.public_id or "-", sentence_of(one), one.signature) for one in found]
    print_table(("time (UTC)", "USDC", "state", "account", "why", "signature"), rows, folded=("why",))


@deposits_app.command("show")
def show(signature: Signature, home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """Show one deposit: who sent it, whom it names and what became of it."""
    found = on_books(settings_of(home, config, sandbox=sandbox), lambda books: Deposits(books.pool, books.balances).find(signature))
    if as_json:
        print_json(found)
        return
    print_fields(
        [
            ("signature", found.signature),
            ("amount", f"{format_usdc(found.amount)} USDC"),
            ("time", f"{_when(found)} UTC, slot {found.slot}"),
            ("sent by", ", ".join(found.senders) or "nobody: it was made, not sent"),
            ("state", found.state),
            ("why", sentence_of(found)),
            ("deposit code", found.deposit_code or "-"),
            ("account", found.public_id or "-"),
            ("recorded", found.recorded_at),
            ("credited", found.credited_at or "-"),
        ]
    )


@deposits_app.command("assign")
def assign(
    signature: Signature,
    account: AccountName,
    reason: Reason,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Credit a deposit that was set aside to an account. Given again for the same account, nothing more is credited."""

    async def work(books: Books) -> tuple[Deposit, Account, Credit]:
        deposits = Deposits(books.pool, books.balances)
        deposit, found = await deposits.find(signature), await books.accounts.find(account)
        await note(books, "deposit_assign", account=found.public_id, signature=signature, amount=deposit.amount, reason=reason)
        try:
            made = await deposits.assign(deposit, found, actor=COMMAND_LINE, reason=reason)
        except InactiveAccount as error:
            raise CommandFailed(f"account {found.id} is {error}; nothing was credited") from error
        except ValueError as error:
            raise CommandFailed(str(error)) from error
        return await deposits.find(signature), found, made

    deposit, found, made = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json({"account": found.id, "deposit_code": found.deposit_code, "state": deposit.state, **as_plain(made)})
    elif deposit.state == "due":
        typer.echo(f"{format_usdc(made.amount)} USDC will be credited to account {found.id} when crediting is resumed (level5 deposits resume)")
    elif made.balance_after is None:
        typer.echo(f"it was credited to account {found.id} before; nothing was added")
    else:
        typer.echo(f"{format_usdc(made.amount)} USDC credited to account {found.id}; its balance is {format_usdc(made.balance_after)} USDC")
        if not made.applied:
            typer.echo("it can be spent as soon as Redis answers again")


@deposits_app.command("rescan")
def rescan(home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """Let the watcher read the vault's history again. What is recorded already stays as it is, and nothing is credited twice."""

    async def work(books: Books) -> Vault:
        deposits = Deposits(books.pool, books.balances)
        vault = await _vault(deposits)
        await note(books, "vault_rescan", vault=vault.address)
        await deposits.rewind(vault, actor=COMMAND_LINE)
        return vault

    vault = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json({"vault": vault.address, "rescan": True})
    else:
        typer.echo(f"the watcher reads the history of {vault.address} again, from its next round on")


@deposits_app.command("resume")
def resume(home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """Credit again where crediting was stopped. What arrived meanwhile is credited within seconds."""

    async def work(books: Books) -> str | None:
        deposits = Deposits(books.pool, books.balances)
        await _vault(deposits)
        reason = await deposits.stopped()
        await note(books, "crediting_resume", stopped=reason)
        await deposits.resume_crediting(actor=COMMAND_LINE)
        return reason

    reason = on_books(settings_of(home, config, sandbox=sandbox), work)
    if as_json:
        print_json({"was_stopped": reason})
    else:
        typer.echo("crediting was not stopped" if reason is None else f"crediting goes on; it was stopped because: {reason}")


async def _vault(deposits: Deposits) -> Vault:
    vault = await deposits.vault()
    if vault is None:
        raise NoVault("no vault was opened in these books yet: `level5 doctor` says what deposits need")
    return vault


def _when(deposit: Deposit) -> str:
    at: datetime = deposit.block_time or deposit.recorded_at
    return at.strftime("%Y-%m-%d %H:%M:%S")
