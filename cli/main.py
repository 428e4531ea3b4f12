"""The command line: `level5`, also installed as `plutus`."""

import telemetry.lean_start  # noqa: F401  # before anything else is imported

# isort: split

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from cli import account_commands, admin_commands, book_commands, deposit_commands, hook_commands, key_commands, prices, role_commands
from cli.connect import connect
from cli.doctor import doctor
from cli.options import AsJson, CommandFailed, ConfigFile, Home, flags_of, log_to_standard_error, print_json
from cli.service_user import EmbeddedStoreError
from cli.stores import NoStores
from cli.up import StartFailed, run_up
from cli.welcome import own_version
from config.rate_card import RateCardError
from config.settings import SettingsError, load_settings
from ledger.errors import LedgerError
from telemetry.lean_end import leave

EXPECTED = (CommandFailed, EmbeddedStoreError, LedgerError, NoStores, RateCardError, SettingsError, StartFailed)

app = typer.Typer(
    help="A billing gateway for AI agents: prepaid USDC, metered per token.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(account_commands.accounts_app, name="accounts")
app.add_typer(account_commands.tokens_app, name="tokens")
app.add_typer(admin_commands.admin_app, name="admin")
app.add_typer(deposit_commands.deposits_app, name="deposits")
app.add_typer(key_commands.keys_app, name="keys")
app.add_typer(prices.app, name="prices")
app.command("credit")(account_commands.credit)
app.command("verify")(book_commands.verify)
app.command("migrate")(book_commands.migrate)
app.command("rebuild")(book_commands.rebuild)
app.command("connect")(connect)
app.command("doctor")(doctor)
app.command("gateway")(role_commands.gateway)
app.command("control")(role_commands.control)
app.command("poster")(role_commands.poster)
app.command("chainwatch")(role_commands.chainwatch)
app.command("install-claude-hook")(hook_commands.install_claude_hook)


@app.command("up")
def up(
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Simulated providers; nothing is needed from outside.")] = False,
    home: Home = None,
    port: Annotated[int | None, typer.Option("--port", help="Port of the gateway.", show_default=False)] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Worker processes of the gateway.", show_default=False)] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Start the whole appliance on this machine and keep it running."""
    settings = load_settings(flags_of(home=home, sandbox=True if sandbox else None, gateway__port=port, gateway__workers=workers), config)
    raise typer.Exit(run_up(settings, as_json=as_json))


@app.command("version")
def show_version(as_json: AsJson = False) -> None:
    """Print the version."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    if as_json:
        print_json({"version": own_version(), "python": python})
    else:
        typer.echo(f"level5 {own_version()} (Python {python})")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. What an operator can put right is one line on standard error and exit code 1."""
    log_to_standard_error()
    try:
        app(args=None if arguments is None else list(arguments), prog_name=Path(sys.argv[0]).name if sys.argv[0].endswith(("level5", "plutus")) else "level5")
    except EXPECTED as error:
        sys.stderr.write(f"level5: {error or type(error).__name__}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain once more while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def run() -> NoReturn:
    """The program: one command, and the end of the process."""
    leave(main)


if __name__ == "__main__":
    run()
