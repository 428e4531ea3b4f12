"""Who waits for a payment is told how far it is on chain, and providers are asked seldom."""

import asyncio
from typing import Any

import pytest

from control.payment_statuses import WATCHED_MAX, ChainLook, PaymentStatuses
from control.rpc_providers import NoProvider


class Provider:
    """Says what it is told to, and notes what it was asked."""

    def __init__(self, **rows: Any) -> None:
        self.rows, self.asked, self.fails = rows, list[list[str]](), False

    async def ask(self, method: str, *params: Any) -> Any:
        assert method == "getSignatureStatuses"
        self.asked.append(params[0])
        if self.fails:
            raise NoProvider(method)
        return {"value": [self.rows.get(signature) for signature in params[0]]}


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def row(status: str, *, err: object = None) -> dict[str, object]:
    return {"confirmationStatus": status, "err": err, "slot": 1, "confirmations": None}


async def test_it_tells_how_far_a_transaction_is_and_whether_it_failed() -> None:
    provider, clock = Provider(good=row("confirmed"), bad=row("finalized", err={"InstructionError": [3, "Custom"]})), Clock()
    statuses = PaymentStatuses(provider, clock=clock)

    good = await statuses.look("good")
    clock.now += 2
    bad, unknown = await statuses.look("bad"), await statuses.look("unknown")

    assert (good, bad, unknown) == (ChainLook("confirmed", failed=False), ChainLook("finalized", failed=True), None)


async def test_all_who_wait_share_one_question_and_none_is_asked_before_its_time() -> None:
    provider, clock = Provider(one=row("confirmed"), two=row("processed")), Clock()
    statuses = PaymentStatuses(provider, clock=clock)

    await asyncio.gather(*(statuses.look(signature) for signature in ("one", "two", "one")))
    clock.now += 1.0
    await statuses.look("two")
    clock.now += 1.0
    seen = await statuses.look("two")

    assert provider.asked == [["one"], ["one", "two"]]
    assert seen == ChainLook("processed", failed=False)


async def test_what_nobody_looks_at_any_more_is_not_asked_for() -> None:
    provider, clock = Provider(), Clock()
    statuses = PaymentStatuses(provider, clock=clock)
    await statuses.look("left")
    clock.now += 60

    await statuses.look("fresh")
    for number in range(2 * WATCHED_MAX):
        await statuses.look(f"flood {number}")
    clock.now += 2
    await statuses.look("fresh")

    assert provider.asked[1] == ["fresh"]
    assert len(provider.asked[-1]) == WATCHED_MAX


async def test_without_an_answer_nothing_is_known_not_even_what_was_known_before() -> None:
    provider, clock = Provider(one=row("confirmed")), Clock()
    statuses = PaymentStatuses(provider, clock=clock)
    before = await statuses.look("one")

    provider.fails = True
    clock.now += 2
    after = await statuses.look("one")

    assert before is not None
    assert after is None


@pytest.mark.parametrize("said", [row("rooted"), {"confirmationStatus": "confirmed"}, "nonsense", 7])
async def test_a_strange_answer_is_no_answer(said: object) -> None:
    statuses = PaymentStatuses(Provider(one=said), clock=Clock())

    assert await statuses.look("one") is None


async def test_a_provider_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        async def ask(self, *_: object) -> None:
            await asyncio.sleep(60)

    monkeypatch.setattr("control.payment_statuses.ANSWER_SECONDS_MAX", 0.01)
    statuses = PaymentStatuses(Hanging())

    assert await asyncio.wait_for(statuses.look("one"), 5) is None
