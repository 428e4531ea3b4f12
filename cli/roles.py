"""The poster's role: it writes the journal, ends the holds of workers that are gone, and checks the books."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from functools import partial

from cli.books import claim_books, open_stores
from config.settings import Settings
from ledger.errors import LedgerError, WrongStore
from ledger.poster import IDLE_PAUSE_SECONDS, Poster
from ledger.reaper import reap_forever
from ledger.reconcile import run_reconciler
from telemetry.logs import configure_logs, log
from telemetry.metrics import run_metrics_server

PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 30.0
REST_SECONDS_MAX = 20.0

type Task = Callable[[asyncio.Event], Awaitable[None]]


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def keep_running(name: str, task: Task, stop: asyncio.Event) -> None:
    """Run `task` until `stop` is set, and again after a pause whenever it fails: one task's fault must not end the others."""
    pause = PAUSE_SECONDS_MIN
    while not stop.is_set():
        try:
            await task(stop)
            return
        except (LedgerError, OSError) as error:
            log.warning("task_failed", task=name, reason=str(error), pause_seconds=pause)
        except Exception:
            log.exception("task_crashed", task=name, pause_seconds=pause)
        try:
            async with asyncio.timeout(pause):
                await stop.wait()
        except TimeoutError:
            pause = min(pause * 2, PAUSE_SECONDS_MAX)


async def run_poster_role(settings: Settings) -> None:
    """Post, reap and reconcile until SIGTERM or SIGINT, then post what is still waiting.

    Raises:
        WrongStore: the stores are another appliance's.
        SettingsError: the address of a store is missing.
    """
    configure_logs(settings.log_level, "poster")
    stop, wrong = stop_on_signals(), list[WrongStore]()
    async with open_stores(settings) as (pool, balances):
        poster = Poster(pool, balances, retention_hours=settings.ledger.outbox_retention_hours)
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_running("metrics_page", partial(show_metrics, settings), stop))
            group.create_task(keep_running("claim", partial(claim_or_stop, settings, wrong), stop))
            group.create_task(keep_running("poster", poster.run, stop))
            group.create_task(keep_running("reaper", partial(reap_forever, balances), stop))
            group.create_task(keep_running("reconciler", lambda asked: run_reconciler(pool, balances, stop=asked), stop))
            log.info("poster_ready")
        if wrong:
            raise wrong[0]
        await post_the_rest(poster)
    log.info("poster_stopped")


async def show_metrics(settings: Settings, stop: asyncio.Event) -> None:
    """Serve the metrics page until `stop` is set. Where another poster of this machine serves it, wait for our turn.

    Raises:
        OSError: the port is taken.
    """
    page = run_metrics_server(settings.metrics.host, settings.metrics.port)
    try:
        await stop.wait()
    finally:
        page.close()


async def claim_or_stop(settings: Settings, wrong: list[WrongStore], stop: asyncio.Event) -> None:
    """Claim the stores; where they are not ours, note why and stop everything.

    Raises:
        JournalUnavailable, BalanceUnavailable: a store did not answer; to be tried again.
    """
    try:
        await claim_books(settings)
    except WrongStore as error:
        wrong.append(error)
        stop.set()


async def post_the_rest(poster: Poster) -> None:
    """Post until nothing waits; what a store that is away keeps from us is posted at the next start."""
    try:
        async with asyncio.timeout(REST_SECONDS_MAX), asyncio.TaskGroup() as group:
            while await poster.turn(group) < IDLE_PAUSE_SECONDS:
                continue
    except (LedgerError, TimeoutError) as error:
        log.warning("not_all_posted", reason=str(error) or type(error).__name__)
