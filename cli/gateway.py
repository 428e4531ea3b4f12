"""The gateway as a role of its own: the workers, and nothing else."""

import os
import time
from pathlib import Path

from cli.appliance import INTERNAL_KEY, METRICS_FOLDER, gateway_roles, new_internal_key, role_child, role_environment
from cli.books import database_url, redis_url
from cli.children import Child, stop_together, tend
from cli.display import Display
from cli.service_user import prepare_home
from cli.stopping import SignalWatch, StopRequested
from config.settings import Settings

LOOK_SECONDS = 1.0


def run_gateway(settings: Settings) -> int:
    """Run the workers until asked to stop, replacing those that die; return the exit code.

    Raises:
        SettingsError: the address of a store is missing.
        EmbeddedStoreError: the home cannot be made.
    """
    for required in (database_url, redis_url):
        required(settings)
    prepare_home(settings.home, None)
    display, signals = Display(), SignalWatch()
    signals.raises = False
    metrics = os.environ.get(METRICS_FOLDER)
    key = os.environ.get(INTERNAL_KEY) or new_internal_key()
    environment = role_environment(settings, dict(os.environ), metrics=Path(metrics) if metrics else None, internal_key=key)
    workers: list[Child] = [role_child(role, None, environment=environment) for role in gateway_roles(settings)]
    try:
        while not signals.requests:
            tend(workers, time.monotonic(), say=display.warn)
            signals.wait(LOOK_SECONDS)
    except StopRequested:
        display.say("stopping")
    finally:
        stop_together(workers, is_urgent=signals.is_urgent)
    return 0
