"""Invariants between the two stores: balances, holds, and the chain's heads as Redis remembers them."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ledger.balances import Balances
from ledger.entries import AccountId
from ledger.errors import ShardClosed
from ledger.findings import Fault, Report
from ledger.journal import Pool, ShardPosition, journal_answers
from ledger.postings import key_digest
from ledger.queries import SQL
from ledger.shard_link import epoch_prefix
from ledger.stores import redis_command, redis_pipeline

ACCOUNTS_AT_ONCE: Final = 200
POSTED_SECONDS_MAX: Final = 10.0
TRIES: Final = 3
HOLD_GRACE_MS: Final = 60_000  # the reaper comes round every second or so; a minute means that it does not


def heads_key(shard: int) -> str:
    """Return the key under which Redis remembers a shard's chain: the number and hash of a row."""
    return f"l5:{{{shard}}}:chain"


async def write_heads(balances: Balances, positions: Sequence[ShardPosition]) -> None:
    """Remember chain heads in Redis, so that a journal whose tail was cut off shows."""
    commands = [("HSET", heads_key(position.shard), "seq", position.chain_seq, "head", position.chain_head.hex()) for position in positions]
    await redis_pipeline(balances, commands)


async def read_heads(balances: Balances, shards: Sequence[int]) -> dict[int, tuple[int, bytes]]:
    """Return the heads that Redis remembers."""
    heads = {}
    for shard in shards:
        seq, head = await redis_command(balances, "HMGET", heads_key(shard), "seq", "head")
        if seq is not None and head is not None:
            heads[shard] = (int(seq), bytes.fromhex(head.decode()))
    return heads


async def check_heads(pool: Pool, heads: Mapping[int, tuple[int, bytes]], *, fault: Fault, whose: str, report: Report) -> None:
    """Find every remembered head in the journal. `heads` were read before, so the journal can only be longer."""
    for shard, (seq, head) in sorted(heads.items()):
        if seq == 0:
            continue
        async with journal_answers():
            found = await pool.fetchval(SQL["row_hash"], shard, seq)
        report.count("heads")
        if found != head:
            state = "is not there" if found is None else "is another one"
            report.add(fault, f"shard {shard}: row {seq}, which {whose} remembers, {state}; the journal was cut or replaced", shard=shard)


async def check_balances(pool: Pool, balances: Balances, shard: int, *, accounts: Sequence[int], report: Report) -> None:
    """Invariant 2, Redis first: once statement line n is posted, its balance is the one that Redis had at n.

    Raises:
        ShardClosed: the shard is not open, so there is nothing to compare.
    """
    for start in range(0, len(accounts), ACCOUNTS_AT_ONCE):
        part = [AccountId(account) for account in accounts[start : start + ACCOUNTS_AT_ONCE]]
        suspects = await _compare(pool, balances, shard, accounts=part)
        for _ in range(TRIES - 1):  # a rebuild in between gives new numbers: only what stays wrong is wrong
            if not suspects:
                break
            suspects = await _compare(pool, balances, shard, accounts=list(suspects))
        report.count("balances", len(part))
        for account, (fault, text, difference) in suspects.items():
            report.add(fault, text, shard=shard, account=account, difference=difference)


async def _compare(pool: Pool, balances: Balances, shard: int, *, accounts: Sequence[AccountId]) -> dict[AccountId, tuple[Fault, str, int]]:
    states = dict(zip(accounts, await asyncio.gather(*(balances.account_state(account, shard) for account in accounts)), strict=True))
    seen = {account: state for account, state in states.items() if state is not None}
    await _wait_for_lines(pool, {account: n for account, (n, _) in seen.items()})
    async with journal_answers():
        rows = await pool.fetch(SQL["lines_at"], list(seen), [n for n, _ in seen.values()])
        waiting = {row["account_id"] for row in await pool.fetch(SQL["not_opened_yet"], shard)}
    lines = {row["account_id"]: row["balance_after"] for row in rows}
    suspects = {}
    for account in accounts:
        state = states[account]
        if state is None:
            if account not in waiting:
                suspects[account] = (Fault.BALANCE_DIFFERS, f"account {account} is missing in Redis", 0)
            continue
        n, balance = state
        posted = lines.get(account) if n else 0
        if posted is None:
            suspects[account] = (Fault.NOT_POSTED, f"account {account}: Redis is at line {n}, which is not in its statement", 0)
        elif posted != balance:
            text = f"account {account}: Redis had {balance} microunits at line {n}, its statement {posted}"
            suspects[account] = (Fault.BALANCE_DIFFERS, text, abs(posted - balance))
    return suspects


async def _wait_for_lines(pool: Pool, lines: Mapping[AccountId, int]) -> None:
    deadline = time.monotonic() + POSTED_SECONDS_MAX
    while lines:
        async with journal_answers():
            rows = await pool.fetch(SQL["account_figures"], list(lines))
        posted = {row["id"]: row["n"] for row in rows}
        if all(posted.get(account, 0) >= n for account, n in lines.items()) or time.monotonic() > deadline:
            return
        await asyncio.sleep(0.05)


async def check_holds(pool: Pool, balances: Balances, shard: int, *, accounts: Sequence[int], report: Report) -> None:
    """Invariant 4: no hold outlives its deadline or its charge, and no money stays set aside without a hold.

    Raises:
        ShardClosed: the shard is not open.
    """
    meta = await balances.read_meta(shard)
    if meta is None or meta.state != "open":
        raise ShardClosed(shard)
    prefix = epoch_prefix(shard, meta.epoch)
    seconds, micros = await redis_command(balances, "TIME")
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    pairs = _pairs(await redis_command(balances, "ZRANGE", f"{prefix}holds", 0, -1, "WITHSCORES"))
    report.count("holds", len(pairs))
    for request_id, deadline in pairs.items():
        if deadline < now_ms - HOLD_GRACE_MS:
            report.add(Fault.HOLD_OVERDUE, f"shard {shard}: hold {request_id} is {(now_ms - deadline) // 1000} s past its deadline", shard=shard)
    async with journal_answers():
        by_digest = {key_digest(f"charge:{request_id}"): request_id for request_id in pairs}
        known = [by_digest[row["key_sha256"]] for row in await pool.fetch(SQL["known_keys"], list(by_digest))]
    for request_id in known:
        if await redis_command(balances, "EXISTS", f"{prefix}h:{request_id}"):
            report.add(Fault.HOLD_LEFT, f"shard {shard}: hold {request_id} is still open, and its charge is in the journal", shard=shard)
    for start in range(0, len(accounts), ACCOUNTS_AT_ONCE):
        part = accounts[start : start + ACCOUNTS_AT_ONCE]
        answers = await redis_pipeline(balances, [("HMGET", f"{prefix}a:{account}", "held", "holds") for account in part])
        for account, values in zip(part, answers, strict=True):
            held, holds = (int(value or 0) for value in values)
            if held < 0 or holds < 0 or (holds == 0 and held != 0):
                text = f"account {account}: {held} microunits are set aside for {holds} holds"
                report.add(Fault.HOLD_LEFT, text, shard=shard, account=account, difference=abs(held))


def _pairs(answer: Any) -> dict[str, int]:
    """Read members and scores, which the client gives flat or in pairs, by its protocol."""
    if answer and isinstance(answer[0], list | tuple):
        return {member.decode(): int(score) for member, score in answer}
    return {member.decode(): int(score) for member, score in zip(answer[::2], answer[1::2], strict=True)}
