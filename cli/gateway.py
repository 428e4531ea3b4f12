"""The gateway as a role of its own: the workers, and nothing else."""

import asyncio
import os
import time
from pathlib import Path

from cli.appliance import INTERNAL_KEY, METRICS_FOLDER, gateway_roles, new_internal_key, role_child, role_environment
from cli.authority import prepare_authority
from cli.books import claim_books, database_url, redis_url
from cli.children import stop_together, tend
from cli.display import Display
from cli.service_user import prepare_home
from cli.stopping import SignalWatch
from config.settings import Settings
from ledger.errors import BalanceUnavailable, JournalUnavailable

LOOK_SECONDS = 1.0
CLAIM_PAUSE_SECONDS = 10.0


class Claim:
    """The claim on the stores, made as soon as both answer: a gateway starts and serves while Postgres is away."""

    def __init__(self, settings: Settings, display: Display) -> None:
        self._settings, self._display = settings, display
        self._made, self._next_at = False, 0.0

    def attempt(self, now: float) -> None:
        """Try, unless it is made or was tried just now.

        Raises:
            WrongStore: these stores are not ours; nothing may be served from them.
        """
        if self._made or now < self._next_at:
            return
        try:
            asyncio.run(claim_books(self._settings))
        except (BalanceUnavailable, JournalUnavailable) as error:
            self._display.warn(f"the stores are not claimed yet: {error}")
            self._next_at = now + CLAIM_PAUSE_SECONDS
        else:
            self._made = True


def run_gateway(settings: Settings) -> int:
    """Run the workers until asked to stop, replacing those that die; return the exit code.

    Raises:
        SettingsError: the address of a store is missing.
        WrongStore: the stores are another appliance's.
        EmbeddedStoreError: the home cannot be made.
        SettingsError: the forward door's certificate authority cannot be made or used.
    """
    for required in (database_url, redis_url):
        required(settings)
    prepare_home(settings.home, None)
    display, signals = Display(), SignalWatch()
    prepare_authority(settings, display)
    signals.raises = False
    metrics = os.environ.get(METRICS_FOLDER)
    key = os.environ.get(INTERNAL_KEY) or new_internal_key()
    environment = role_environment(settings, dict(os.environ), metrics=Path(metrics) if metrics else None, internal_key=key)
    workers = [role_child(role, None, environment=environment) for role in gateway_roles(settings)]
    claim = Claim(settings, display)
    try:
        while not signals.requests:
            claim.attempt(time.monotonic())
            tend(workers, time.monotonic(), say=display.warn)
            signals.wait(LOOK_SECONDS)
    finally:
        stop_together(workers, is_urgent=signals.is_urgent)
    return 0
