"""Calls of one provider: every way to fail arrives as one of our own errors, in time, and never with the address."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from chainwatch.errors import (
    BadAnswer,
    BehindSlot,
    HistoryMissing,
    NoProvider,
    ProviderFailure,
    RefusedCall,
    Throttled,
    Unavailable,
    UnknownBefore,
    WrongCluster,
)
from chainwatch.pacing import FAILURES_BEFORE_REST, Rest, TokenBucket
from chainwatch.providers import Provider, Providers
from chainwatch.rpc import RpcClient, host_of, read_retry_after
from tests.fakes.chain import Chain, open_chain
from tests.fakes.listed import GENESIS, ListedHistory

KEY = "a-key-of-the-operator"


@pytest.fixture
async def chain() -> AsyncIterator[Chain]:
    async with open_chain(providers=2) as made:
        yield made


@pytest.fixture
async def client(chain: Chain) -> AsyncIterator[RpcClient]:
    made = RpcClient(f"{chain.rpc_url(1)}/?api-key={KEY}", seconds_max=1.0)
    yield made
    await made.close()


async def test_a_call_is_answered(chain: Chain, client: RpcClient) -> None:
    assert await client.call("getGenesisHash") == chain.genesis


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("429", Throttled),
        ("503", Unavailable),
        ("500", Unavailable),
        ("404", Unavailable),
        ("cut", Unavailable),
        ("reset", Unavailable),
        ("bad_json", BadAnswer),
        ("empty", BadAnswer),
        ("error:-32005", Unavailable),
        ("error:-32016", BehindSlot),
        ("error:-32019", HistoryMissing),
        ("error:-32020", UnknownBefore),
        ("error:-32429", Throttled),
        ("error:-32001", HistoryMissing),
        ("error:-32602", RefusedCall),
    ],
)
async def test_case_43_every_failure_is_one_of_our_errors_and_shows_no_key(chain: Chain, client: RpcClient, word: str, kind: type[ProviderFailure]) -> None:
    chain.faults(1).always = word

    with pytest.raises(kind) as failure:
        await client.call("getSlot")

    assert KEY not in str(failure.value)
    assert client.host in str(failure.value)
    assert failure.value.__cause__ is None


async def test_case_43_a_provider_says_how_long_it_is_to_be_left_alone(chain: Chain, client: RpcClient) -> None:
    chain.faults(1).always, chain.faults(1).retry_after = "429", 7

    with pytest.raises(Throttled) as failure:
        await client.call("getSlot")

    assert failure.value.retry_after == 7


async def test_a_provider_that_hangs_is_given_up_in_time(chain: Chain, client: RpcClient) -> None:
    chain.faults(1).always = "hang"

    with pytest.raises(Unavailable):
        await asyncio.wait_for(client.call("getSlot"), 10)


async def test_an_answer_that_grows_too_long_is_not_read(chain: Chain) -> None:
    client = RpcClient(chain.rpc_url(1), bytes_max=50)

    with pytest.raises(BadAnswer, match="more than"):
        await client.call("getAccountInfo", str(chain.vault), {"encoding": "base64"})

    await client.close()


async def test_nobody_there_is_unavailable() -> None:
    client = RpcClient("http://127.0.0.1:9/?api-key=" + KEY, seconds_max=2.0)

    with pytest.raises(Unavailable) as failure:
        await client.call("getSlot")

    assert KEY not in str(failure.value)
    await client.close()


def test_a_provider_is_named_by_its_host_alone() -> None:
    assert host_of("https://user:secret@rpc.example.com:8899/v2/key?api-key=key") == "rpc.example.com:8899"
    assert host_of("https://rpc.example.com/key") == "rpc.example.com"


def test_retry_after_is_read_as_a_number_or_a_date_within_bounds() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

    assert read_retry_after("3") == 3
    assert read_retry_after("86400") == 300
    assert 50 < (read_retry_after(later) or 0) <= 60
    assert read_retry_after("soon") is None
    assert read_retry_after("") is None


class Turned:
    """A clock that a test turns; sleeping turns it too."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    clock = Turned()
    bucket = TokenBucket(10, clock=clock, sleep=clock.sleep)

    for _ in range(10):
        await bucket.take()
    burst = clock.now
    for _ in range(20):
        await bucket.take()

    assert burst == 100.0
    assert clock.now == pytest.approx(102.0)


def test_a_provider_rests_after_failures_on_end_and_when_it_asks_for_it() -> None:
    clock = Turned()
    failing, asked = Rest(clock=clock), Rest(clock=clock)

    for _ in range(FAILURES_BEFORE_REST - 1):
        failing.note_failure()
    before = failing.seconds
    failing.note_failure()
    asked.note_throttled(5.0)

    assert before == 0
    assert failing.seconds > 0
    assert 5.0 <= asked.seconds <= 6.0
    clock.now += 10
    assert (failing.seconds, asked.seconds) == (0, 0)


def providers_of(*genesis: str) -> Providers:
    class Other(ListedHistory):
        genesis = ""

        async def call(self, method: str, *params: object) -> object:
            if not self.genesis:
                raise Unavailable("away")
            return self.genesis if method == "getGenesisHash" else await ListedHistory.call(self, method, *params)

    made = []
    for number, one in enumerate(genesis):
        history = Other(host=f"provider-{number}.test")
        history.genesis = one
        made.append(Provider(history, requests_per_second=1000))  # type: ignore[arg-type]  # a client without a network
    return Providers(made)


OTHER_GENESIS = GENESIS[::-1]


async def test_a_provider_of_another_cluster_is_never_used() -> None:
    providers = providers_of(OTHER_GENESIS, GENESIS)

    assert await providers.pin(GENESIS) == GENESIS
    assert [one.host for one in providers.usable()] == ["provider-1.test"]
    assert any("another cluster" in fault for fault in providers.faults())


async def test_case_60_providers_of_another_cluster_alone_are_refused() -> None:
    with pytest.raises(WrongCluster, match="name providers of that cluster"):
        await providers_of(OTHER_GENESIS, OTHER_GENESIS).pin(GENESIS)


async def test_case_60_providers_of_different_clusters_are_refused_while_none_is_pinned() -> None:
    with pytest.raises(WrongCluster, match="different clusters"):
        await providers_of(GENESIS, OTHER_GENESIS).pin("")


async def test_providers_that_do_not_answer_yet_are_waited_for() -> None:
    with pytest.raises(NoProvider):
        await providers_of("", "").pin("")
    with pytest.raises(NoProvider):
        await providers_of("", OTHER_GENESIS).pin(GENESIS)
