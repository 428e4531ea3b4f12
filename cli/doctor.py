"""`level5 doctor`: asks everything the appliance depends on, and says what is wrong and what to do."""

import asyncio
import os
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import typer

from cli.admin_checks import check_console
from cli.authority import check_forward
from cli.books import open_stores
from cli.findings import Finding
from cli.home_lock import is_running
from cli.options import AsJson, ConfigFile, Home, Sandbox, flags_of, print_json
from cli.ports import PortInUse, require_free_ports
from cli.service_user import EmbeddedStoreError, choose_service_user, require_reachable
from cli.stores import NoStores, command_settings
from config.rate_card import RateCardError, load_rate_card
from config.settings import ProviderSettings, ProvidersSettings, Settings, load_settings
from ledger.balances import Balances
from ledger.durability import durability_findings
from ledger.errors import LedgerError
from ledger.journal import Pool, journal_answers
from ledger.migrate import read_migrations
from ledger.stores import redis_answers

CLOCK_SECONDS_MAX = 2.0
PROVIDER_SECONDS_MAX = 10.0
FREE_BYTES_MIN = 1024**3
MARKS = {"ok": "ok   ", "warning": "WARN ", "fault": "FAULT"}


def doctor(home: Home = None, config: ConfigFile = None, sandbox: Sandbox = None, as_json: AsJson = False) -> None:
    """Check settings, stores, clocks, keys, prices, disk and deposits. Exit code 1 when something is at fault."""
    flags = flags_of(home=home, sandbox=sandbox)
    settings, running = load_settings(flags, config), True
    try:
        settings = command_settings(flags, config)
    except NoStores:
        running = False
    findings = [*check_machine(settings), *check_prices(settings), *check_providers(settings), *check_deposits(settings, running=running)]
    findings += check_forward(settings, running=running)
    findings.append(check_console(settings))
    if running:
        findings += asyncio.run(collect(check_stores(settings)))
    else:
        findings.append(Finding("stores", "warning", f"no appliance runs on {settings.home}, so its stores were not asked; start it with `level5 up`"))
    if as_json:
        print_json({"ok": not any(one.state == "fault" for one in findings), "findings": findings})
    else:
        for one in findings:
            typer.echo(f"{MARKS[one.state]}  {one.what}: {one.text}")
    raise typer.Exit(1 if any(one.state == "fault" for one in findings) else 0)


async def collect(findings: AsyncIterator[Finding]) -> list[Finding]:
    """Return all findings."""
    return [one async for one in findings]


def check_machine(settings: Settings) -> Iterator[Finding]:
    """Check the interpreter, the home and the ports."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("python", "ok" if sys.version_info >= (3, 12) else "fault", version)
    yield Finding("settings", "ok", f"{settings.mode} mode, home {settings.home}")
    yield check_home(settings)
    if is_running(settings.home):
        yield Finding("ports", "ok", f"in use by the appliance that runs on {settings.home}")
        return
    try:
        require_free_ports(settings)
    except PortInUse as error:
        yield Finding("ports", "warning", str(error))
    else:
        yield Finding("ports", "ok", "free")


def check_home(settings: Settings) -> Finding:
    """Check that the home can be used and has room."""
    present = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    if not os.access(present, os.W_OK):
        return Finding("home", "fault", f"{present} cannot be written to; set LEVEL5_HOME to a folder of yours")
    if settings.database_url is None or settings.redis_url is None:
        try:
            require_reachable(present, choose_service_user())
        except EmbeddedStoreError as error:
            return Finding("home", "fault", str(error))
    free = shutil.disk_usage(present).free
    text = f"{free // 1024**2:,} MiB free below {present}"
    return Finding("home", "ok" if free >= FREE_BYTES_MIN else "warning", text)


def check_prices(settings: Settings) -> Iterator[Finding]:
    """Check that the rate card can be read."""
    try:
        card = load_rate_card(settings.rates)
    except RateCardError as error:
        yield Finding("prices", "fault", str(error))
        return
    yield Finding("prices", "ok", f"{len(tuple(card.all()))} models, rate card {card.hash[:12]}")


def check_providers(settings: Settings) -> Iterator[Finding]:
    """Ask each provider whether it takes the operator's keys."""
    for name in ProvidersSettings.model_fields:
        provider: ProviderSettings = getattr(settings.providers, name)
        if not provider.keys:
            yield Finding(name, "warning", f"off: no key (LEVEL5_PROVIDERS__{name.upper()}__API_KEY)")
        for position, key in enumerate(provider.keys, start=1):
            yield ask_provider(name if len(provider.keys) == 1 else f"{name} key {position}", provider, key)
        fallback = getattr(provider, "fallback", None)
        if fallback is not None and not getattr(settings.providers, fallback).keys:
            yield Finding(name, "fault", f"its fallback {fallback} is off: no key (LEVEL5_PROVIDERS__{fallback.upper()}__API_KEY)")


def ask_provider(title: str, provider: ProviderSettings, key: str) -> Finding:
    """List the provider's models with the operator's key, which costs nothing. A title begins with the provider's name."""
    name = title.split(" ", 1)[0]
    credentials = {"x-api-key": key, "anthropic-version": "2023-06-01"} if name == "anthropic" else {"authorization": f"Bearer {key}"}
    # OpenRouter lists its models to anybody; its key has an address of its own.
    path = "/v1/key" if name == "openrouter" and "openrouter.ai" in provider.base_url else "/v1/models"
    request = urllib.request.Request(provider.base_url + path, headers={**credentials, "user-agent": "level5-doctor"})  # noqa: S310  # the settings admit http(s) only
    context = ssl.create_default_context(cafile=str(provider.ca_file) if provider.ca_file else None)
    try:
        with urllib.request.urlopen(request, timeout=PROVIDER_SECONDS_MAX, context=context):  # noqa: S310  # the settings admit http(s) only
            return Finding(title, "ok", f"{provider.base_url} takes the key")
    except urllib.error.HTTPError as error:
        if error.code in {401, 403}:
            return Finding(title, "fault", f"{provider.base_url} refuses the key (status {error.code})")
        return Finding(title, "warning", f"{provider.base_url} answered with status {error.code}")
    except OSError as error:
        return Finding(title, "fault", f"{provider.base_url} cannot be reached: {getattr(error, 'reason', error)}")


def check_deposits(settings: Settings, *, running: bool) -> list[Finding]:
    """Check what deposits on chain need, or say which setting switches them off. The sandbox's chain is asked only while it runs."""
    chain = settings.chain
    if not chain.is_on:
        missing = [name for name, given in (("LEVEL5_CHAIN__TREASURY", chain.treasury), ("LEVEL5_CHAIN__RPC_URLS", chain.rpc_urls)) if not given]
        return [Finding("deposits", "warning", f"off, accounts are credited by hand: {' and '.join(missing)} not set")]
    if settings.mode == "sandbox" and not running:
        return [Finding("deposits", "ok", "on the sandbox's simulated chain, which is not running")]
    from cli.chain_checks import check_chain  # solana-py takes longer to load than the other commands to run

    return asyncio.run(check_chain(settings))


async def check_stores(settings: Settings) -> AsyncIterator[Finding]:
    """Ask Postgres and Redis, each on its own: one that is away must not hide the other."""
    async with open_stores(settings) as (pool, balances):
        checks = {"postgres": lambda: check_postgres(pool, settings), "redis": lambda: check_redis(balances)}
        if settings.chain.is_on:
            from cli.chain_checks import check_watcher

            checks["watcher"] = lambda: check_watcher(pool, balances, settings)
        for name, check in checks.items():
            for finding in await answered(name, check):
                yield finding


async def answered(name: str, check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """Return what `check` finds, or that the store does not answer."""
    try:
        return await check()
    except LedgerError as error:
        return [Finding(name, "fault", f"does not answer: {error or type(error).__name__}")]


async def check_postgres(pool: Pool, settings: Settings) -> list[Finding]:
    """Check schema, mode and clock of the journal."""
    async with journal_answers():
        version = await pool.fetchval("SHOW server_version")
        now = await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        tables = await pool.fetchval("SELECT to_regclass('schema_versions') IS NOT NULL")
        applied = await pool.fetchval("SELECT count(*) FROM schema_versions") if tables else 0
        mode = await pool.fetchval("SELECT mode FROM instance") if tables and applied else None
    shipped = len(read_migrations())
    findings = [Finding("postgres", "ok", f"version {version}"), clock_finding("clock of postgres", now)]
    if applied != shipped:
        findings.append(Finding("schema", "fault", f"{applied} of {shipped} migrations are applied; run `level5 migrate`"))
    else:
        findings.append(Finding("schema", "ok", f"{applied} migrations"))
    if mode is not None and mode != settings.mode:
        findings.append(Finding("instance", "fault", f"the database holds {mode} books, and this is {settings.mode} mode"))
    return findings


async def check_redis(balances: Balances) -> list[Finding]:
    """Check durability and clock of Redis, and that every shard is open."""
    async with redis_answers():
        seconds, microseconds = await balances.redis.time()
    findings = [clock_finding("clock of redis", seconds + microseconds / 1_000_000)]
    wrong = await durability_findings(balances.redis)
    findings += [Finding("redis", "fault" if one.refuse else "warning", f"{one.setting} {one.text}") for one in wrong]
    if not wrong:
        findings.append(Finding("redis", "ok", "durable, never evicts"))
    metas = await balances.read_all_meta()
    closed = [shard for shard, meta in metas.items() if meta is None or meta.state != "open"]
    text = f"{len(metas) - len(closed)} of {len(metas)} shards are open"
    findings.append(Finding("shards", "fault" if closed else "ok", text + ("; closed ones are rebuilt by the poster" if closed else "")))
    return findings


def clock_finding(what: str, seconds: float) -> Finding:
    """Compare a store's clock with ours."""
    difference = seconds - time.time()
    text = f"differs by {difference:+.3f} s"
    if abs(difference) > CLOCK_SECONDS_MAX:
        return Finding(what, "fault", f"{text}; set both machines by NTP")
    return Finding(what, "ok", text)
