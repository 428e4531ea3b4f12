"""Deposits measured: how many are credited a second, how soon after they are final, and what providers are asked for it.

`python -m bench.deposits [--providers 1,3] [--dust 5000] [--requests-per-second 1000]`. A simulated cluster (blocks of 400 ms, final after 8)
and the real watcher run in processes of their own on durable stores. The lag counts from the moment at which the cluster calls a deposit's
slot final to the one at which its account can spend it. Figures of one run only may be compared.
"""

import argparse
import asyncio
import json
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.deposit_stand import PROVIDERS_MAX, Cluster, Stand, run_stand
from bench.processes import BenchError
from ledger.accounts import NewAccount
from telemetry.logs import configure_logs

RESULTS = Path(__file__).parent / "results"
NOBODY = "0" * 16
USDC = 1_000_000
ACCOUNTS = 60
IDLE_SECONDS = 10.0
PAUSE_SECONDS = 1.5
CREDIT_SECONDS_MAX = 120.0
SEVERAL = 4  # from so many accounts on they are asked less often, so that asking does not slow what is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One scenario with so many providers. `per_second` counts from the first deposit that was final, or read, to the last credit."""

    scenario: str
    providers: int
    deposits: int
    per_second: float
    lag_p50_seconds: float
    lag_p99_seconds: float
    lag_max_seconds: float
    calls: int
    calls_per_deposit: float
    watcher_cpu_ms_per_transaction: float
    transactions_per_second: float


@dataclass(slots=True)
class Paid:
    """One payment: `reach` is what its account has once it is credited."""

    account: NewAccount
    slot: int
    reach: int
    credited_at: float | None = None


@dataclass(slots=True)
class Run:
    """The payments of one scenario, watched until all of them can be spent."""

    stand: Stand
    totals: dict[str, int]
    paid: list[Paid] = field(default_factory=list)
    other_transactions: int = 0

    async def pay(self, cluster: Cluster, number: int, microunits: int = USDC) -> None:
        account = self.stand.accounts[number % len(self.stand.accounts)]
        code = account.account.deposit_code
        slot = await asyncio.to_thread(cluster.pay, code, microunits)
        self.totals[code] = self.totals.get(code, 0) + microunits
        self.paid.append(Paid(account, slot, self.totals[code]))

    async def watch(self) -> None:
        """Note when each payment can be spent, until cancelled."""
        while True:
            waiting = {paid.account.api_token: paid.account for paid in self.paid if paid.credited_at is None}
            for account in waiting.values():
                balance, now = await self.stand.balance(account), time.monotonic()
                for paid in self.paid:
                    if paid.account is account and paid.credited_at is None and paid.reach <= balance:
                        paid.credited_at = now
            await asyncio.sleep(0.01 if len(waiting) < SEVERAL else 0.05)

    async def wait(self) -> None:
        """Wait until all can be spent.

        Raises:
            BenchError: not in time.
        """
        deadline = time.monotonic() + CREDIT_SECONDS_MAX
        while any(paid.credited_at is None for paid in self.paid):
            if time.monotonic() > deadline:
                missing = sum(paid.credited_at is None for paid in self.paid)
                raise BenchError(f"{missing} of {len(self.paid)} deposits are not credited after {CREDIT_SECONDS_MAX:.0f} s")
            await asyncio.sleep(0.05)

    def lags(self) -> list[float]:
        """Return the seconds between finality and credit. A root is told a little later than it is one, so none is below zero."""
        finals = [(paid.credited_at, self.stand.finality.of(paid.slot)) for paid in self.paid]
        return sorted(max(0.0, credited - final) for credited, final in finals if credited is not None and final is not None)


@asynccontextmanager
async def running(stand: Stand, totals: dict[str, int]) -> AsyncIterator[Run]:
    """Watch payments for the length of the block."""
    run = Run(stand, totals)
    task = asyncio.create_task(run.watch())
    try:
        yield run
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Measurement:
    """All scenarios on one stand."""

    def __init__(self, stand: Stand) -> None:
        self._stand, self._cluster, self._totals = stand, Cluster(stand.port), dict[str, int]()

    async def idle(self) -> Figure:
        """Nobody pays: what is asked all the same."""
        self._begin()
        await asyncio.sleep(IDLE_SECONDS)
        return self._figure("idle", Run(self._stand, self._totals), seconds=IDLE_SECONDS, begin_cpu=0.0)

    async def rest(self, count: int) -> Figure:
        """A deposit now and then."""
        begin_cpu = self._begin()
        async with running(self._stand, self._totals) as run:
            began = time.monotonic()
            for number in range(count):
                await run.pay(self._cluster, number)
                await asyncio.sleep(PAUSE_SECONDS)
            await run.wait()
        return self._figure("at rest", run, seconds=time.monotonic() - began, begin_cpu=begin_cpu)

    async def burst(self, count: int) -> Figure:
        """All of them in one slot, final at one moment."""
        begin_cpu = self._begin()
        async with running(self._stand, self._totals) as run:
            self._cluster.ask("POST", "clock", {"running": False})
            for number in range(count):
                await run.pay(self._cluster, number)
            self._cluster.ask("POST", "clock", {"running": True})
            await run.wait()
        first = min(final for paid in run.paid if (final := self._stand.finality.of(paid.slot)) is not None)
        return self._figure(f"burst of {count}", run, seconds=_last(run) - first, begin_cpu=begin_cpu)

    async def dust(self, count: int) -> Figure:
        """Somebody spams the vault with transfers that name nobody, as fast as the cluster takes them, while others pay."""
        begin_cpu, spammer = self._begin(), Cluster(self._stand.port)
        before = (await self._stand.deposits.figures()).dust_count

        def spam() -> None:
            for _ in range(count):
                spammer.pay(NOBODY, 1)

        async with running(self._stand, self._totals) as run:
            began, number = time.monotonic(), 0
            spamming = asyncio.create_task(asyncio.to_thread(spam))
            while not spamming.done():
                await run.pay(self._cluster, number)
                number += 1
                await asyncio.sleep(PAUSE_SECONDS)
            await spamming
            await run.wait()
            deadline = time.monotonic() + CREDIT_SECONDS_MAX
            while (await self._stand.deposits.figures()).dust_count < before + count:
                if time.monotonic() > deadline:
                    raise BenchError("not all of the dust is recorded in time")
                await asyncio.sleep(0.25)
        run.other_transactions = count
        return self._figure(f"under {count} dust", run, seconds=time.monotonic() - began, begin_cpu=begin_cpu)

    async def backlog(self, count: int) -> Figure:
        """The watcher was away while deposits came; `per_second` is from its first credit to the last."""
        self._stand.stop_watcher()
        async with running(self._stand, self._totals) as run:
            for number in range(count):
                await run.pay(self._cluster, number)
            while self._stand.finality.of(run.paid[-1].slot) is None:
                await asyncio.sleep(0.1)
            self._begin()
            self._stand.start_watcher()
            await run.wait()
        first = min(paid.credited_at for paid in run.paid if paid.credited_at is not None)
        return self._figure(f"backlog of {count}", run, seconds=_last(run) - first, begin_cpu=0.0)

    def _begin(self) -> float:
        self._cluster.take_calls(self._stand.providers)
        return self._stand.watcher_cpu_ms()

    def _figure(self, scenario: str, run: Run, *, seconds: float, begin_cpu: float) -> Figure:
        calls, lags, read = self._cluster.take_calls(self._stand.providers), run.lags(), len(run.paid) + run.other_transactions
        print(f"{self._stand.providers} providers: {scenario}: {dict(calls)}", file=sys.stderr, flush=True)
        return Figure(
            scenario=scenario, providers=self._stand.providers, deposits=len(run.paid), per_second=len(run.paid) / seconds,
            lag_p50_seconds=quantile(lags, 0.5), lag_p99_seconds=quantile(lags, 0.99), lag_max_seconds=quantile(lags, 1.0),
            calls=calls.total(), calls_per_deposit=calls.total() / len(run.paid) if run.paid else 0.0,
            watcher_cpu_ms_per_transaction=(self._stand.watcher_cpu_ms() - begin_cpu) / read if read else 0.0, transactions_per_second=read / seconds,
        )  # fmt: skip


def _last(run: Run) -> float:
    return max(paid.credited_at for paid in run.paid if paid.credited_at is not None)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the least value that at least `share` of them do not exceed; 0 where there is none."""
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else 0.0


async def measure(providers: int, *, dust: int, requests_per_second: float) -> tuple[list[Figure], list[str]]:
    """Measure all scenarios on a new stand; return the figures, and what is wrong with the books afterwards."""
    async with run_stand(providers=providers, requests_per_second=requests_per_second) as stand:
        await stand.open_accounts(ACCOUNTS)
        await stand.wait_level()
        one = Measurement(stand)
        figures = [await one.idle(), await one.rest(10), await one.burst(300), await one.dust(dust), await one.backlog(500)]
        return figures, await stand.find_faults()


def as_table(figures: Sequence[Figure]) -> str:
    """Return the figures as lines of text."""
    head = f"{'scenario':18}{'providers':>10}{'deposits':>9}{'a second':>9}{'lag p50 s':>10}{'p99 s':>8}{'max s':>8}"
    head += f"{'calls':>7}{'a deposit':>10}{'CPU ms/tx':>10}{'tx/s':>7}"
    lines = [
        f"{one.scenario:18}{one.providers:>10}{one.deposits:>9}{one.per_second:>9.1f}{one.lag_p50_seconds:>10.2f}{one.lag_p99_seconds:>8.2f}"
        f"{one.lag_max_seconds:>8.2f}{one.calls:>7}{one.calls_per_deposit:>10.1f}{one.watcher_cpu_ms_per_transaction:>10.1f}{one.transactions_per_second:>7.0f}"
        for one in figures
    ]
    return "\n".join([head, *lines])


def run(providers: Sequence[int], *, dust: int, requests_per_second: float) -> int:
    """Measure, print and keep the figures; return the exit code."""
    RESULTS.mkdir(exist_ok=True)
    load, figures, faults = os.getloadavg()[0], list[Figure](), list[str]()
    for count in providers:
        measured, found = asyncio.run(measure(count, dust=dust, requests_per_second=requests_per_second))
        figures, faults = figures + measured, faults + found
    print(as_table(figures))
    place = RESULTS / f"deposits-{time.strftime('%Y%m%d-%H%M%S')}.json"
    machine = {"cores": os.cpu_count(), "load_before": load, "python": sys.version.split()[0]}
    result = {"machine": machine, "requests_per_second": requests_per_second, "faults": faults, "figures": [asdict(one) for one in figures]}
    place.write_text(json.dumps(result, indent=1) + "\n")
    print(f"load before: {load:.1f} on {os.cpu_count()} cores; {'; '.join(faults) or 'the books are whole'}; written to {place}")
    return 1 if faults else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.deposits", description=__doc__)
    parser.add_argument("--providers", default="1,3", help="numbers of RPC providers to measure with (default %(default)s)")
    parser.add_argument("--dust", type=int, default=5000, help="transfers that name nobody (default %(default)s)")
    parser.add_argument("--requests-per-second", type=float, default=1000.0, help="what each provider is asked at most; operators begin with 10")
    flags = parser.parse_args(arguments)
    providers = [int(text) if text.isdecimal() else 0 for text in flags.providers.split(",")]
    if not all(1 <= one <= PROVIDERS_MAX for one in providers) or flags.dust < 1 or flags.requests_per_second <= 0:
        parser.error(f"one to {PROVIDERS_MAX} providers, and counts above zero")
    configure_logs("warning", "bench")
    try:
        return run(providers, dust=flags.dust, requests_per_second=flags.requests_per_second)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
