"""Several providers: which may be asked, in which order, and which are of another cluster or too far behind."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import structlog

from chainwatch.calls import AccountLook, read_account, read_genesis
from chainwatch.errors import BadAnswer, NoProvider, ProviderFailure, Throttled, Unavailable, WrongCluster
from chainwatch.pacing import Clock, Rest, TokenBucket
from chainwatch.rpc import CALL_SECONDS_MAX, RpcClient, host_of
from config.chain import CLUSTERS
from telemetry import metrics

log = structlog.get_logger("chainwatch")

LAG_SLOTS_MAX: Final = 50
STUCK_SECONDS: Final = 60.0
GENESIS_SECONDS: Final = 3600.0  # how long it is believed that an address still leads to the same cluster


class Provider:
    """One provider: its client at its rate, its rests, and the finalized slot it last told."""

    def __init__(self, client: RpcClient, *, requests_per_second: float, clock: Clock = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self.bucket, self.rest = TokenBucket(requests_per_second, clock=clock), Rest(clock=clock)
        self.slot, self._slot_max, self._moved_at = 0, 0, clock()
        self.genesis, self._genesis_at = "", 0.0

    @property
    def host(self) -> str:
        """Its name, which is all that may be told of its address."""
        return self._client.host

    @property
    def slot_max(self) -> int:
        """The highest finalized slot it ever told. Behind one address may be several nodes, so the last one can be lower."""
        return self._slot_max

    @property
    def is_stuck(self) -> bool:
        """Whether its finalized slot has not moved for a long time, though it answers."""
        return self._slot_max > 0 and self._clock() - self._moved_at > STUCK_SECONDS

    async def call(self, method: str, *params: object) -> Any:
        """Ask when its rate allows it.

        Raises:
            ProviderFailure: it failed, or is being left alone after failures.
        """
        if self.rest.seconds:
            raise Unavailable(f"{self.host} is left alone for {self.rest.seconds:.1f} s")
        await self.bucket.take()
        try:
            result = await self._client.call(method, *params)
        except Throttled as failure:
            self.rest.note_throttled(failure.retry_after)
            raise
        except (Unavailable, BadAnswer):
            self.rest.note_failure()
            raise
        except ProviderFailure:
            self.rest.note_success()  # a refusal is an answer
            raise
        self.rest.note_success()
        return result

    async def look(self, address: str) -> AccountLook:
        """Return an account at its newest finalized slot, and remember that slot."""
        look = await read_account(self, address)
        self.slot = look.slot
        if look.slot > self._slot_max:
            self._slot_max, self._moved_at = look.slot, self._clock()
        return look

    async def learn_genesis(self) -> None:
        """Ask which cluster it is of, unless that was asked lately; a failure leaves what was known."""
        if self.genesis and self._clock() - self._genesis_at < GENESIS_SECONDS:
            return
        try:
            self.genesis, self._genesis_at = await read_genesis(self), self._clock()
        except ProviderFailure as failure:
            log.warning("provider_failed", provider=self.host, reason=str(failure))

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


class Providers:
    """All providers of the settings, in the settings' order. `genesis` is the cluster that they must be of."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self.all = tuple(providers)
        self.genesis = ""

    @classmethod
    def at(cls, urls: Sequence[str], *, requests_per_second: float, seconds_max: float = CALL_SECONDS_MAX) -> "Providers":
        """Return the providers at these addresses. Several of one host are numbered, so that each has a name."""
        made: list[Provider] = []
        for url in urls:
            host = host_of(url)
            others = sum(host_of(other) == host for other in urls[: len(made)])
            client = RpcClient(url, host=f"{host} ({others + 1})" if others else host, seconds_max=seconds_max)
            made.append(Provider(client, requests_per_second=requests_per_second))
        return cls(made)

    async def pin(self, genesis: str) -> str:
        """Learn the clusters of all providers and return the one to watch: `genesis`, or where that is empty the one they all are of.

        Raises:
            NoProvider: none told its cluster yet.
            WrongCluster: all that answered are of another cluster, or of different ones while none is pinned.
        """
        await asyncio.gather(*(one.learn_genesis() for one in self.all))
        told = {one.genesis for one in self.all if one.genesis}
        if not told:
            raise NoProvider("no RPC provider answers: " + ", ".join(one.host for one in self.all))
        if genesis and genesis not in told and all(one.genesis for one in self.all):
            raise WrongCluster(f"these books belong to {name_cluster(genesis)}, and chain.rpc_urls leads to {_names(told)}: name providers of that cluster")
        if not genesis and len(told) > 1:
            raise WrongCluster(f"chain.rpc_urls leads to different clusters ({_names(told)}): name providers of one cluster")
        if genesis and genesis not in told:
            raise NoProvider(f"no RPC provider of {name_cluster(genesis)} answers")
        self.genesis = genesis or told.pop()
        return self.genesis

    async def look(self, address: str) -> dict[Provider, AccountLook]:
        """Return how each provider of our cluster that answers shows an account at its newest finalized slot."""
        ours = [one for one in self.all if one.genesis == self.genesis]
        looks = await asyncio.gather(*(one.look(address) for one in ours), return_exceptions=True)
        found: dict[Provider, AccountLook] = {}
        for provider, look in zip(ours, looks, strict=True):
            if isinstance(look, AccountLook):
                found[provider] = look
            elif isinstance(look, ProviderFailure):
                log.info("provider_failed", provider=provider.host, reason=str(look))
            else:
                raise look
        for provider in ours:
            metrics.chain_lag_slots.labels(provider.host).set(self.lag(provider))
        return found

    @property
    def slot(self) -> int:
        """The highest finalized slot that any of them told."""
        return max((one.slot_max for one in self.all if one.genesis == self.genesis), default=0)

    def lag(self, provider: Provider) -> int:
        """Return how many finalized slots a provider was behind the foremost one when it was last looked at."""
        return max(0, self.slot - provider.slot)

    def usable(self) -> list[Provider]:
        """Return the providers that may be asked now, the healthiest first, else in the settings' order."""
        fit = [one for one in self.all if one.genesis == self.genesis and not one.rest.seconds and self.lag(one) <= LAG_SLOTS_MAX]
        return sorted(fit, key=lambda one: one.rest.failures)

    def require_usable(self) -> list[Provider]:
        """Return what `usable` does, and never nothing.

        Raises:
            NoProvider: saying of each provider why it cannot be used.
        """
        return self.usable() or self._refuse()

    def _refuse(self) -> list[Provider]:
        raise NoProvider("no RPC provider can be used: " + "; ".join(self.faults()))

    def faults(self) -> list[str]:
        """Return what is wrong with providers, one sentence each, for the operator."""
        return [f"{one.host} {fault}" for one in self.all if (fault := self._fault(one))]

    def _fault(self, provider: Provider) -> str:
        if not provider.genesis:
            return "has not answered yet"
        if provider.genesis != self.genesis:
            return f"is of another cluster ({name_cluster(provider.genesis)}) and is not used"
        if provider.rest.seconds:
            return "fails or asks for fewer calls"
        if self.lag(provider) > LAG_SLOTS_MAX:
            return f"is {self.lag(provider)} slots behind"
        return f"has shown no new finalized slot for more than {STUCK_SECONDS:.0f} s" if provider.is_stuck else ""

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(one.close() for one in self.all), return_exceptions=True)


def name_cluster(genesis: str) -> str:
    """Return what people call a cluster."""
    return CLUSTERS.get(genesis, f"the cluster with genesis hash {genesis}")


def _names(hashes: set[str]) -> str:
    return ", ".join(sorted(name_cluster(one) for one in hashes))
