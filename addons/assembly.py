"""Putting the gateway together: stores, prices, providers, and the addons that use them."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import certifi

from addons.activity import activity
from addons.admission import Admission
from addons.alarms import show_alarms
from addons.answers import Answers
from addons.background import Background
from addons.control_relay import ControlRelay
from addons.fallback import Fallback
from addons.forward import Map
from addons.forward_gate import ForwardGate
from addons.gateway import Gateway, Parts
from addons.lifecycle import Lifecycle
from addons.links import Links
from addons.resilience import Resilience
from addons.upstream import read_providers
from config.settings import Settings, SettingsError
from ledger.balances import Balances, connect_redis
from ledger.changes import LateJournal
from ledger.errors import BalanceUnavailable, JournalUnavailable, LedgerError
from ledger.journal import Pool, open_pool, record_rate_card
from ledger.settlement import Settler
from ledger.spool import Spool
from ledger.stored_objects import StoredObjects
from ledger.tokens import parse_token
from metering.pricing import RateCard
from telemetry.logs import log

INTERNAL_KEY = "LEVEL5_INTERNAL_KEY"
SPOOL_FOLDER = "spool"
START_SECONDS_MAX = 5.0
CLOSE_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """A gateway ready to be given to a master."""

    gateway: Gateway
    links: Links
    background: Background
    settler: Settler
    forward: ForwardGate

    @property
    def addons(self) -> tuple[object, ...]:
        """What mitmproxy is given, in the order in which they must hear."""
        return self.links, self.forward, self.gateway


@asynccontextmanager
async def assemble(settings: Settings, card: RateCard) -> AsyncIterator[Assembly]:
    """Yield a gateway on the stores of the settings. Neither store needs to answer yet: requests get 503 until Redis does.

    Raises:
        SettingsError: a store's address is missing.
    """
    if settings.database_url is None or settings.redis_url is None:
        raise SettingsError("LEVEL5_DATABASE_URL and LEVEL5_REDIS_URL must be set to run a gateway alone; `level5 up` brings stores of its own")
    redis = connect_redis(settings.redis_url.get_secret_value())
    pool = await open_pool(settings.database_url.get_secret_value())
    balances = Balances(redis, instance="")  # the supervisor has claimed the stores before it starts a gateway
    await _load(balances)
    assembly = _build(settings, card, balances, pool)
    meeting = assembly.background.start(_meet_journal(pool, assembly.settler, card), name="journal")
    await asyncio.wait({meeting}, timeout=START_SECONDS_MAX)  # a database that hangs also hangs the cancelling of a question
    renewing = asyncio.create_task(assembly.settler.run(), name="settler")
    flushing = asyncio.create_task(activity.keep_flushing(balances), name="activity")
    try:
        yield assembly
    finally:
        await _close(assembly, renewing, flushing)
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await redis.aclose()
                await pool.close()


async def _load(balances: Balances) -> None:
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            await balances.load()
    except (BalanceUnavailable, TimeoutError) as error:
        log.warning("redis_not_there_yet", reason=str(error) or type(error).__name__)


async def _meet_journal(pool: Pool, settler: Settler, card: RateCard) -> None:
    """Learn the journal's epochs before anything is served, so that an old copy of Redis is not believed, and leave the rate card there.

    A journal that is away does not keep a worker from starting: the settler asks again, and the supervisor has recorded the card.
    """
    try:
        await settler.trust_journal()
        await record_rate_card(pool, card.hash, card.body)
    except JournalUnavailable as error:
        log.warning("journal_not_there_yet", reason=str(error) or type(error).__name__)


async def _close(assembly: Assembly, *tasks: "asyncio.Task[None]") -> None:
    await assembly.background.finish(CLOSE_SECONDS_MAX)
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    try:
        assembly.settler.close()
    except (OSError, LedgerError):
        log.error("charges_not_spooled", exc_info=True)


def _build(settings: Settings, card: RateCard, balances: Balances, pool: Pool) -> Assembly:
    gateway_settings, ledger_settings, background = settings.gateway, settings.ledger, Background()
    providers = read_providers(settings.providers, gateway_settings)
    show_alarms(providers.values())
    admission = Admission(
        balances=balances, objects=StoredObjects(pool, balances), card=card, providers=providers, settings=ledger_settings,
        top_up_url=f"{settings.origin}/dashboard",
    )  # fmt: skip
    settler = Settler(balances, Spool(settings.home / SPOOL_FOLDER), LateJournal(pool, balances), policy=admission.policy)
    admission.use(settler)
    forward = ForwardGate(
        Map(providers.values(), settings.forward.tunnel),
        authenticate=lambda text: balances.authenticate(parse_token(text)),
        seconds_max=gateway_settings.connect_seconds_max,
    )
    lifecycle = Lifecycle(settler=settler, card=card, extension_tokens=ledger_settings.extension_tokens, overdraft_max=admission.policy.overdraft_max)
    relay = ControlRelay(f"http://{control_host(settings)}:{settings.control.port}", peer_key=os.environ.get(INTERNAL_KEY, ""))
    links = Links(
        background=background,
        connect_seconds_max=gateway_settings.connect_seconds_max,
        read_on_seconds_max=gateway_settings.read_on_seconds_max,
        known=frozenset([relay.address, *((provider.host, provider.port) for provider in providers.values())]),
        may_dial=forward.may_dial,
    )
    fallback = Fallback(admission=admission, lifecycle=lifecycle, providers=providers, card=card, settings=ledger_settings)
    gateway = Gateway(
        Parts(
            settings=gateway_settings,
            admission=admission,
            lifecycle=lifecycle,
            relay=relay,
            answers=Answers(),
            background=background,
            links=links,
            resilience=Resilience(providers, fallback),
            forward=forward,
        )
    )
    return Assembly(gateway=gateway, links=links, background=background, settler=settler, forward=forward)


def control_host(settings: Settings) -> str:
    """Return where the control API is reached from this machine: an address to listen on is not always one to connect to."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.control.host, settings.control.host)  # noqa: S104  # compared with, not bound


def combined_trust(settings: Settings, folder: Path) -> str | None:
    """Return a file with the public authorities and those the settings add, None where they add none."""
    providers = settings.providers
    extra = [section.ca_file for section in (providers.anthropic, providers.openai, providers.openrouter) if section.ca_file is not None]
    if not extra:
        return None
    combined = folder / "authorities.pem"
    combined.write_text("\n".join(path.read_text() for path in (Path(certifi.where()), *dict.fromkeys(extra))))
    return str(combined)
