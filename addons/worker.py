"""One gateway worker: `python -O -m addons.worker`, settings from the environment. SIGTERM and SIGINT drain it."""

import telemetry.lean_start  # noqa: F401  # before anything else is imported

# isort: split

import asyncio
import gc
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from addons.assembly import assemble, combined_trust
from addons.authority import ensure_authority
from addons.connections import GatewayHttp1Server
from addons.drain import drain
from addons.forward_listener import modes_of
from addons.links import Links
from addons.listener import GatewayMaster, ListenError, make_master
from addons.provider_pool import ProviderKey
from addons.upstream import longest_silence, read_providers
from config.rate_card import load_rate_card
from config.settings import Settings, SettingsError, load_settings
from metering.pricing import RateCard
from telemetry import metrics
from telemetry.lean_end import leave
from telemetry.logs import configure_logs, log
from telemetry.tallies import tallies

IDLE_MARGIN_SECONDS = 60
SHOW_SECONDS = 5.0


async def run_worker(settings: Settings, card: RateCard) -> None:
    """Serve until a signal comes, then drain.

    Raises:
        ListenError: an address is taken or not ours.
        AuthorityError: the forward door's authority cannot be made or read.
        SettingsError: a store's address is missing.
    """
    with tempfile.TemporaryDirectory(prefix="level5-") as confdir:
        async with assemble(settings, card) as assembly:
            gateway = settings.gateway
            GatewayHttp1Server.head_bytes_max = gateway.head_bytes_max
            master = make_master(
                modes=modes_of(settings),
                confdir=str(ensure_authority(settings).folder) if settings.forward.enabled else confdir,
                # mitmproxy's only timeout of its own looks like the client leaving: it must be the last to strike.
                idle_seconds_max=int(longest_silence(settings)) + IDLE_MARGIN_SECONDS,
                trusted_ca=combined_trust(settings, Path(confdir)),
                addons=assembly.addons,
                fast_lane=gateway.fast_lane,
            )
            assembly.links.attach(master.proxyserver, assembly.gateway.end)
            await _serve(master, settings, assembly.links)


async def _serve(master: GatewayMaster, settings: Settings, links: Links) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(master.run(), name="master")
        tasks.create_task(_stop_when_told(master, settings, links, stop, serving), name="drain")


async def _stop_when_told(master: GatewayMaster, settings: Settings, links: Links, stop: asyncio.Event, serving: "asyncio.Task[None]") -> None:
    while not master.started.is_set():
        if serving.done():
            return  # it could not listen; its own exception says why
        await asyncio.sleep(0.01)
    _announce(settings)
    _show_tasks()
    async with asyncio.TaskGroup() as beside:
        warming = beside.create_task(master.pool.warm_up(_tls_providers(settings)), name="warm-up")
        await stop.wait()
        warming.cancel()
    await drain(master.proxyserver, links, seconds_max=settings.gateway.drain_seconds_max)
    master.should_exit.set()


def _tls_providers(settings: Settings) -> list[ProviderKey]:
    """Return the addresses that the fast lane will need a handshake for."""
    providers = read_providers(settings.providers, settings.gateway).values() if settings.gateway.fast_lane else ()
    return [((provider.host, provider.port), True) for provider in providers if provider.api_key and provider.scheme == "https"]


def _show_tasks() -> None:
    """Tell how many tasks there are, now and every few seconds."""
    tallies.show(metrics.worker_tasks, len(asyncio.all_tasks()))
    asyncio.get_running_loop().call_later(SHOW_SECONDS, _show_tasks)


def _announce(settings: Settings) -> None:
    gc.collect()
    gc.freeze()
    line = {"event": "worker_ready", "pid": os.getpid(), "host": settings.gateway.host, "port": settings.gateway.port}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run a worker; exits 2 when it cannot start."""
    try:
        settings = load_settings()
        configure_logs(settings.log_level, "gateway")
        card = load_rate_card(settings.rates)
        asyncio.run(run_worker(settings, card))
    except* (SettingsError, ListenError, OSError) as group:
        for error in group.exceptions:
            log.error("worker_cannot_start", reason=str(error))
        raise SystemExit(2) from None
    finally:
        tallies.write()


if __name__ == "__main__":
    leave(main)
