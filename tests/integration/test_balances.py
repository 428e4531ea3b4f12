"""The hot balances against a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ledger.balances import AccountRow, Balances, Hold, HoldPolicy, Renewal, connect_redis
from ledger.entries import AccountId, ChargeRecord, RequestId, UsageLine
from ledger.errors import (
    BalanceUnavailable,
    BooksUnderPressure,
    BrokenInvariant,
    HoldEnded,
    HoldUnknown,
    InactiveAccount,
    InsufficientFunds,
    ShardClosed,
    TooManyRequests,
    UnknownToken,
    WrongStore,
)
from ledger.money import Microunits
from ledger.shard_link import meta_key
from ledger.tokens import ApiToken, TokenState, mint_token, new_request_id

SHARD = 7
ACCOUNT = AccountId(42)
POLICY = HoldPolicy(overdraft_max=0, concurrent_max=64, ttl_ms=60_000, outbox_max=1000)


@pytest.fixture
async def balances(redis_url: str) -> AsyncIterator[Balances]:
    redis = connect_redis(redis_url, command_seconds_max=10)
    books = Balances(redis, instance="instance-1")
    await open_books(books)
    yield books
    await redis.aclose()


async def open_books(books: Balances, *, epoch: int = 1, seq: int = 0, due_seq: int = 0) -> None:
    await books.open_shard(SHARD, epoch=epoch, seq=seq, due_seq=due_seq, posted=seq, instance="instance-1", mode="sandbox")
    await books.load()


@pytest.fixture
async def token(balances: Balances) -> ApiToken:
    """The token of an account with 1000 microunits."""
    token = mint_token(ACCOUNT, SHARD)[1]
    fields = {"status": "active", f"t:{token.digest}": "1"}
    assert await apply(balances, 1, "open:org_1", fields=fields) == "ok"
    assert await apply(balances, 2, "credit:1", amount=1000) == "ok"
    return token


async def apply(books: Balances, due_seq: int, key: str, *, amount: int = 0, fields: dict[str, str] | None = None) -> str:
    return await books.apply_change(SHARD, due_seq=due_seq, account=ACCOUNT, key=key, amount=amount, fields=fields or {}, detail="{}")


async def place(books: Balances, token: ApiToken, amount: int, *, minimum: int | None = None, policy: HoldPolicy = POLICY) -> Hold:
    return await books.place_hold(token, new_request_id(), minimum=amount if minimum is None else minimum, amount=amount, policy=policy)


def record_of(request_id: RequestId, amount: int) -> ChargeRecord:
    line = UsageLine(provider="anthropic", model="claude-sonnet-4-6", input_tokens=amount)
    return ChargeRecord(
        request_id=request_id, provider="anthropic", model="claude-sonnet-4-6", operation="messages", lines=(line,), amount=Microunits(amount),
        provider_leg=Microunits(amount), numerator=amount * 10**6, list_numerator=amount * 10**6, rate_card="card", started_at=0,
    )  # fmt: skip


async def expire_now(books: Balances, hold: Hold) -> int:
    """Let the hold's deadline pass and the reaper come round."""
    await books.renew([Renewal(hold=hold, charge=Microunits(0), detail="")], ttl_ms=0)
    await asyncio.sleep(0.002)
    return await books.expire(SHARD)


async def test_a_hold_sets_money_aside_and_a_settlement_takes_what_was_used(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300)

    assert (hold.amount, hold.standing.balance, hold.standing.available) == (300, 1000, 700)
    settlement = await balances.settle(hold, record_of(hold.request_id, 120))
    assert (settlement.balance, settlement.available, settlement.charge) == (880, 880, 120)
    entry = (await balances.read_outbox(SHARD, after=2, count=10))[0]
    assert (entry.seq, entry.kind, entry.key, entry.account, entry.n, entry.amount, entry.balance, entry.due) == (
        3, "charge", f"charge:{hold.request_id}", ACCOUNT, 2, -120, 880, None,
    )  # fmt: skip
    assert ChargeRecord.from_json(entry.detail) == record_of(hold.request_id, 120)


async def test_a_repeated_settlement_changes_nothing(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300)
    first = await balances.settle(hold, record_of(hold.request_id, 120))

    again = await balances.settle(hold, record_of(hold.request_id, 120))

    assert again == replace(first, repeated=True)
    assert len(await balances.read_outbox(SHARD, after=0, count=100)) == 3


async def test_a_charge_above_the_hold_is_taken_in_full(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300)

    settlement = await balances.settle(hold, record_of(hold.request_id, 1500))

    assert (settlement.balance, settlement.available) == (-500, -500)


async def test_a_charge_of_nothing_is_recorded(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 0)

    settlement = await balances.settle(hold, record_of(hold.request_id, 0))

    assert (settlement.balance, settlement.seq) == (1000, 3)


async def test_the_same_request_id_returns_the_same_hold(balances: Balances, token: ApiToken) -> None:
    request_id = new_request_id()
    holds = [await balances.place_hold(token, request_id, minimum=1, amount=300, policy=POLICY) for _ in range(2)]

    assert holds[1].amount == 300
    assert (await balances.authenticate(token)).held == 300


async def test_a_hold_takes_what_is_available_when_that_covers_the_minimum(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 5000, minimum=900)

    assert (hold.amount, hold.standing.available) == (1000, 0)


async def test_less_than_the_minimum_is_refused_with_its_numbers(balances: Balances, token: ApiToken) -> None:
    with pytest.raises(InsufficientFunds) as refusal:
        await place(balances, token, 1001)

    assert (refusal.value.required, refusal.value.available, refusal.value.balance) == (1001, 1000, 1000)
    assert (await balances.authenticate(token)).held == 0


async def test_a_new_account_has_no_overdraft_and_a_charged_one_a_tenth_of_its_charges(balances: Balances, token: ApiToken) -> None:
    policy = replace(POLICY, overdraft_max=50)
    with pytest.raises(InsufficientFunds):
        await place(balances, token, 1001, policy=policy)
    hold = await place(balances, token, 300, policy=policy)
    await balances.settle(hold, record_of(hold.request_id, 300))

    assert (await place(balances, token, 730, policy=policy)).amount == 730
    with pytest.raises(InsufficientFunds):
        await place(balances, token, 1, policy=policy)
    with pytest.raises(InsufficientFunds):
        await place(balances, token, 1, policy=POLICY)


async def test_the_overdraft_rule_is_capped_and_the_operators_line_is_not(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 1000)
    await balances.settle(hold, record_of(hold.request_id, 1000))
    with pytest.raises(InsufficientFunds):
        await place(balances, token, 51, policy=replace(POLICY, overdraft_max=50))

    await apply(balances, 3, "line:1", fields={"line": "500"})

    assert (await place(balances, token, 500, policy=replace(POLICY, overdraft_max=50))).standing.line == 500
    await apply(balances, 4, "line:2", fields={"line": ""})
    assert (await balances.authenticate(token)).line is None


async def test_an_extension_is_granted_whole_or_not_at_all(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300)

    hold = await balances.extend(hold, 800, overdraft_max=0)
    assert (hold.amount, hold.standing.available, hold.standing.held) == (800, 200, 800)
    assert (await balances.extend(hold, 800, overdraft_max=0)).amount == 800
    with pytest.raises(InsufficientFunds) as refusal:
        await balances.extend(hold, 1001, overdraft_max=0)
    assert (refusal.value.required, refusal.value.available) == (201, 200)


async def test_an_ended_hold_cannot_be_extended_or_placed_again(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300)
    await balances.void(hold)

    with pytest.raises(HoldUnknown):
        await balances.extend(hold, 400, overdraft_max=0)
    with pytest.raises(HoldEnded):
        await balances.place_hold(token, hold.request_id, minimum=1, amount=1, policy=POLICY)


async def test_a_void_before_its_hold_leaves_a_tombstone_so_that_nothing_leaks(balances: Balances, token: ApiToken) -> None:
    request_id = new_request_id()
    await balances.void_request(request_id, account=ACCOUNT, shard=SHARD)

    with pytest.raises(HoldEnded):
        await balances.place_hold(token, request_id, minimum=1, amount=1, policy=POLICY)
    assert (await balances.authenticate(token)).held == 0


async def test_a_void_releases_the_whole_hold_once(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300)

    for _ in range(2):
        assert (await balances.void(hold)).available == 1000
    with pytest.raises(HoldUnknown):
        await balances.settle(hold, record_of(hold.request_id, 1))


async def test_an_unknown_hold_is_not_charged(balances: Balances, token: ApiToken) -> None:
    hold = replace(await place(balances, token, 300), request_id=new_request_id())

    with pytest.raises(HoldUnknown):
        await balances.settle(hold, record_of(hold.request_id, 100))
    assert (await balances.authenticate(token)).balance == 1000


async def test_a_renewed_hold_lives_on_and_an_abandoned_one_expires_without_a_charge(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300, policy=replace(POLICY, ttl_ms=1))
    assert await balances.renew([Renewal(hold=hold, charge=Microunits(0), detail="")], ttl_ms=60_000) == set()
    await asyncio.sleep(0.005)
    assert await balances.expire(SHARD) == 0

    assert await expire_now(balances, hold) == 1
    assert (await balances.authenticate(token)).available == 1000
    assert len(await balances.read_outbox(SHARD, after=2, count=10)) == 0
    assert await balances.renew([Renewal(hold=hold, charge=Microunits(0), detail="")], ttl_ms=60_000) == {hold.request_id}


async def test_an_expired_hold_is_charged_its_checkpoint_and_an_exact_settlement_posts_the_difference_once(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300)
    checkpoint = replace(record_of(hold.request_id, 80), estimated=True)
    await balances.renew([Renewal(hold=hold, charge=Microunits(80), detail=checkpoint.to_json())], ttl_ms=1000)
    await expire_now(balances, hold)

    settlements = [await balances.settle(hold, record_of(hold.request_id, 50)) for _ in range(2)]

    assert [settlement.balance for settlement in settlements] == [950, 950]
    entries = await balances.read_outbox(SHARD, after=2, count=10)
    assert [(entry.kind, entry.key, entry.amount) for entry in entries] == [
        ("charge", f"charge:{hold.request_id}", -80), ("adjust", f"adjust:{hold.request_id}", 30),
    ]  # fmt: skip
    assert (await balances.authenticate(token)).charged == 50


async def test_an_exact_settlement_equal_to_the_checkpoint_posts_nothing(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300)
    await balances.renew([Renewal(hold=hold, charge=Microunits(80), detail=record_of(hold.request_id, 80).to_json())], ttl_ms=1000)
    await expire_now(balances, hold)

    settlement = await balances.settle(hold, record_of(hold.request_id, 80))

    assert (settlement.balance, settlement.seq) == (920, 3)
    assert len(await balances.read_outbox(SHARD, after=2, count=10)) == 1


async def test_a_settlement_after_an_expiry_without_charge_is_charged_in_full(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300)
    await expire_now(balances, hold)

    settlement = await balances.settle(hold, record_of(hold.request_id, 50))

    assert settlement.balance == 950
    assert (await balances.read_outbox(SHARD, after=2, count=10))[0].key == f"charge:{hold.request_id}"


async def test_unknown_revoked_suspended_and_closed_are_told_apart(balances: Balances, token: ApiToken) -> None:
    stranger = mint_token(ACCOUNT, SHARD)[1]
    with pytest.raises(UnknownToken):
        await balances.authenticate(stranger)
    with pytest.raises(UnknownToken):
        await place(balances, stranger, 1)
    states = (("status", "suspended", "suspended"), ("status", "closed", "closed"), ("status", "active", None), (f"t:{token.digest}", "0", "revoked"))
    for due, (field, value, reason) in enumerate(states, start=3):
        await apply(balances, due, f"status:{due}", fields={field: value})
        if reason is None:
            continue
        with pytest.raises(InactiveAccount, match=reason):
            await balances.authenticate(token)
        with pytest.raises(InactiveAccount, match=reason):
            await place(balances, token, 1)
        assert (await balances.standing(token)).status == reason


async def test_only_so_many_holds_at_once(balances: Balances, token: ApiToken) -> None:
    policy = replace(POLICY, concurrent_max=2)
    first = await place(balances, token, 1, policy=policy)
    await place(balances, token, 1, policy=policy)

    with pytest.raises(TooManyRequests):
        await place(balances, token, 1, policy=policy)
    await balances.void(first)
    await place(balances, token, 1, policy=policy)


async def test_an_outbox_that_is_not_posted_refuses_new_holds_and_nothing_else(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300)
    with pytest.raises(BooksUnderPressure):
        await place(balances, token, 1, policy=replace(POLICY, outbox_max=2))
    await balances.settle(hold, record_of(hold.request_id, 1))
    await balances.mark_posted(SHARD, 1, 3)
    await place(balances, token, 1, policy=replace(POLICY, outbox_max=2))


async def test_changes_are_applied_once_and_in_order(balances: Balances, token: ApiToken) -> None:
    assert await apply(balances, 2, "credit:1", amount=1000) == "done"
    assert await apply(balances, 4, "credit:3", amount=5) == "gap"
    assert await apply(balances, 3, "credit:2", amount=-400) == "ok"

    assert await balances.account_state(ACCOUNT, SHARD) == (2, 600)
    entries = await balances.read_outbox(SHARD, after=0, count=10)
    assert [(entry.kind, entry.n, entry.amount, entry.due) for entry in entries] == [("apply", None, 0, 1), ("apply", 1, 1000, 2), ("apply", 2, -400, 3)]


async def test_a_late_charge_counts_into_the_sum_of_charges(balances: Balances, token: ApiToken) -> None:
    await apply(balances, 3, "charge:late", amount=-70)
    await apply(balances, 4, "adjust:late", amount=20)

    standing = await balances.authenticate(token)
    assert (standing.balance, standing.charged) == (950, 50)


async def test_amounts_beyond_what_lua_can_count_are_refused(balances: Balances, token: ApiToken) -> None:
    with pytest.raises(BrokenInvariant):
        await place(balances, token, 2**53)
    with pytest.raises(BrokenInvariant):
        await place(balances, token, -1)
    with pytest.raises(BrokenInvariant):
        await apply(balances, 3, "credit:x", amount=2**53 - 1)
    with pytest.raises(BrokenInvariant):
        await apply(balances, 3, "credit:x", amount=2**53)
    assert await balances.account_state(ACCOUNT, SHARD) == (1, 1000)


async def test_large_amounts_keep_every_digit(balances: Balances, token: ApiToken) -> None:
    await apply(balances, 3, "credit:2", amount=2**53 - 2001)
    hold = await place(balances, token, 2**53 - 1002)

    assert (hold.amount, hold.standing.balance, hold.standing.available) == (2**53 - 1002, 2**53 - 1001, 1)
    assert (await balances.read_outbox(SHARD, after=2, count=1))[0].balance == 2**53 - 1001


async def test_a_missing_or_closed_shard_is_closed_and_never_an_unknown_token(balances: Balances, token: ApiToken) -> None:
    elsewhere = ApiToken(ACCOUNT, 8, token.digest)
    with pytest.raises(ShardClosed):
        await balances.authenticate(elsewhere)
    await balances.close_shard(SHARD, 1)
    with pytest.raises(ShardClosed):
        await balances.authenticate(token)
    await balances.redis.flushall()
    with pytest.raises(ShardClosed):
        await balances.authenticate(token)
    assert await balances.read_meta(SHARD) is None


async def test_a_new_epoch_is_found_without_a_restart_and_old_holds_are_unknown_to_it(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300)
    await balances.close_shard(SHARD)
    other = Balances(balances.redis, instance="instance-1")
    await other.write_accounts(SHARD, 2, [AccountRow(account=ACCOUNT, balance=1000, n=1, charged=0, status="active", tokens={token.digest: TokenState.ACTIVE})])
    assert await other.account_totals(SHARD, 2) == (1, 1000)
    await other.open_shard(SHARD, epoch=2, seq=2, due_seq=2, posted=2, instance="instance-1", mode="sandbox")
    await other.drop_epoch(SHARD, 1)

    with pytest.raises(ShardClosed):
        await balances.settle(hold, record_of(hold.request_id, 1))
    assert (await balances.authenticate(token)).held == 0
    assert balances.epoch(SHARD) == 2
    again = await balances.replace_hold(replace(hold, amount=Microunits(5000)), policy=POLICY)
    assert (again.epoch, again.replaced, (await balances.authenticate(token)).available) == (2, True, -4000)
    names = [name for name in await balances.redis.keys("*") if b":e1:" in name]
    assert names == []


async def test_an_epoch_that_is_open_cannot_be_written_over_or_dropped(balances: Balances, token: ApiToken) -> None:
    with pytest.raises(BrokenInvariant):
        await balances.write_accounts(SHARD, 1, [])
    with pytest.raises(BrokenInvariant):
        await balances.drop_epoch(SHARD, 1)


async def test_a_shard_never_opens_in_an_epoch_that_has_passed_or_behind_its_outbox(balances: Balances, token: ApiToken) -> None:
    await balances.close_shard(SHARD)
    for epoch, seq in ((1, 2), (2, 1)):
        with pytest.raises(BrokenInvariant):
            await balances.open_shard(SHARD, epoch=epoch, seq=seq, due_seq=2, posted=0, instance="instance-1", mode="sandbox")


async def test_the_journals_epoch_closes_a_restored_copy_of_redis(balances: Balances, token: ApiToken) -> None:
    balances.trust_epochs({SHARD: 3})

    with pytest.raises(ShardClosed):
        await balances.authenticate(token)


async def test_a_redis_that_went_back_in_time_is_closed(balances: Balances, token: ApiToken) -> None:
    await apply(balances, 3, "credit:2", amount=5)
    await balances.redis.hset(meta_key(SHARD), mapping={"seq": 2})

    with pytest.raises(ShardClosed):
        await balances.authenticate(token)
    meta = await balances.read_meta(SHARD)
    assert meta is not None
    assert meta.state == "closed"


async def test_a_journal_that_is_ahead_of_redis_closes_the_shard(balances: Balances, token: ApiToken) -> None:
    with pytest.raises(ShardClosed):
        await balances.mark_posted(SHARD, 1, 3)

    with pytest.raises(ShardClosed):
        await balances.authenticate(token)


async def test_only_posted_entries_are_trimmed(balances: Balances, token: ApiToken) -> None:
    for due in range(3, 404):
        await apply(balances, due, f"credit:{due}", amount=1)
    assert await balances.trim_outbox(SHARD, 400) == 0
    await balances.mark_posted(SHARD, 1, 250)

    assert await balances.trim_outbox(SHARD, 400) > 100
    assert (await balances.read_outbox(SHARD, after=0, count=1))[0].seq <= 251


async def test_another_instances_redis_is_refused(balances: Balances) -> None:
    with pytest.raises(WrongStore):
        await Balances(balances.redis, instance="instance-2").load()


async def test_scripts_that_redis_forgot_are_loaded_again(balances: Balances, token: ApiToken) -> None:
    await balances.redis.script_flush()

    assert (await balances.authenticate(token)).balance == 1000


async def test_a_redis_that_is_away_is_unavailable(balances: Balances, token: ApiToken, valkey_server: object) -> None:
    hold = await place(balances, token, 300)
    valkey_server.stop()  # type: ignore[attr-defined]

    for attempt in (balances.authenticate(token), balances.settle(hold, record_of(hold.request_id, 1)), balances.void(hold), balances.read_all_meta()):
        with pytest.raises(BalanceUnavailable):
            await attempt

    valkey_server.start()  # type: ignore[attr-defined]
    valkey_server.wait_until_ready()  # type: ignore[attr-defined]
    assert (await balances.settle(hold, record_of(hold.request_id, 1))).balance == 999


async def test_a_full_redis_refuses_new_holds_and_still_settles(balances: Balances, token: ApiToken) -> None:
    hold = await place(balances, token, 300)
    await balances.redis.config_set("maxmemory", "1")
    with pytest.raises(BooksUnderPressure):
        await place(balances, token, 1)
    balances.memory_known_until += 1000
    balances.memory_short = False
    with pytest.raises(BooksUnderPressure):
        await place(balances, token, 1)

    assert await balances.renew([Renewal(hold=hold, charge=Microunits(1), detail="{}")], ttl_ms=1000) == set()
    assert (await balances.settle(hold, record_of(hold.request_id, 5))).balance == 995


async def test_two_hundred_requests_on_a_balance_that_covers_three(balances: Balances, token: ApiToken) -> None:
    policy = replace(POLICY, concurrent_max=1000)
    results = await asyncio.gather(*(place(balances, token, 300, policy=policy) for _ in range(200)), return_exceptions=True)

    assert sum(isinstance(result, Hold) for result in results) == 3
    assert sum(isinstance(result, InsufficientFunds) for result in results) == 197
