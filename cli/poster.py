"""`python -m cli.poster`: the poster as a process of its own, with settings from the environment, and without all that commands need."""

import telemetry.lean_start  # noqa: F401  # before anything else is imported

# isort: split

import sys

import uvloop

from cli.roles import run_poster_role
from config.rate_card import RateCardError
from config.settings import SettingsError, load_settings
from ledger.errors import LedgerError
from telemetry.lean_end import leave


def main() -> int:
    """Run the role; return its exit code."""
    try:
        uvloop.run(run_poster_role(load_settings()))
    except (LedgerError, RateCardError, SettingsError) as error:
        sys.stderr.write(f"level5: {error or type(error).__name__}\n")
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    leave(main)
