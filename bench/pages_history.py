"""A long past for one account, written into its stores as the poster and the gateway would have written it over ninety days."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from ledger.activity import record_activity
from ledger.activity_values import SIZE, Outcome
from ledger.balances import Balances, connect_redis

DAYS: Final = 90
ACTIVITY_MODELS: Final = 6
SECONDS_MAX: Final = 3600

_MONTHS: Final = "SELECT ensure_month(now() - make_interval(days => back)) FROM generate_series(0, $1, 27) AS back"
_WORKSPACES: Final = """
INSERT INTO workspaces (id, account_id, name, slug, created_at)
SELECT 'ws_bench' || place, $1, 'workspace ' || place, 'workspace-' || place, now() FROM generate_series(0, 9) AS place"""
# Three of five were metered by the gateway, the others reported; a dozen models each, ten workspaces, twelve kinds of work.
_EVENTS: Final = """
INSERT INTO usage_events (
    shard, account_id, request_id, line, provider, model, operation, input_tokens, output_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
    cache_read_tokens, amount, estimated, occurred_at, settled_at, seq, reasoning_tokens, task_type, source, workspace_id)
SELECT $2, $1, lpad(to_hex(number), 8, '0') || '-bec0-7000-8000-000000000000', 0, (ARRAY['anthropic', 'openai', 'openrouter'])[1 + number % 3],
    'model-' || number * 7 % 12, CASE WHEN heard THEN 'reported' ELSE 'messages' END, 100 + number % 4000, 10 + number % 900, number % 200, number % 50,
    number % 9000, 1 + number % 5000, false, settled_at, settled_at, 10000000 + number, CASE WHEN heard THEN 0 END,
    CASE WHEN heard THEN 'task-' || number % 12 END, CASE WHEN heard THEN 'api' END, CASE WHEN heard THEN 'ws_bench' || number % 10 END
FROM (
    SELECT number, number % 5 < 2 AS heard, date_trunc('milliseconds', now() - make_interval(secs => ($3::float - number) * $4 * 86400 / $3)) AS settled_at
    FROM generate_series(1, $3::integer) AS number) AS past"""
_LINES: Final = """
INSERT INTO statement (
    account_id, n, amount, balance_after, kind, type, request_id, provider, model, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens,
    estimated, created_at, shard, seq, workspace_id, task_type)
SELECT account_id, seq - 10000000, -amount, -sum(amount) OVER (ORDER BY seq), CASE operation WHEN 'reported' THEN 'usage' ELSE 'charge' END, 'DEBIT',
    request_id, provider, model, input_tokens, output_tokens, cache_write_5m_tokens + cache_write_1h_tokens, cache_read_tokens, false, settled_at, shard, seq,
    workspace_id, task_type
FROM usage_events WHERE account_id = $1"""
_ROLLUPS: Final = """
INSERT INTO rollups_hourly (
    shard, account_id, hour, provider, model, reported, requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount, provider_cost,
    cache_write_1h_tokens)
SELECT shard, account_id, date_trunc('hour', settled_at, 'UTC'), provider, model, operation = 'reported', count(*), sum(input_tokens), sum(output_tokens),
    sum(cache_write_5m_tokens + cache_write_1h_tokens), sum(cache_read_tokens), sum(amount),
    CASE WHEN operation = 'reported' THEN 0 ELSE sum(amount) * 10 / 11 END, sum(cache_write_1h_tokens)
FROM usage_events WHERE account_id = $1 GROUP BY 1, 2, 3, 4, 5, operation"""
_WORK: Final = """
INSERT INTO work_hourly
SELECT shard, account_id, date_trunc('hour', settled_at, 'UTC'), workspace_id, task_type, count(*), sum(input_tokens), sum(output_tokens),
    sum(cache_write_5m_tokens + cache_write_1h_tokens), sum(cache_read_tokens), sum(amount)
FROM usage_events WHERE account_id = $1 AND operation = 'reported' GROUP BY 1, 2, 3, 4, 5"""
_HOUSE: Final = """
INSERT INTO house_hourly
SELECT hour, CASE WHEN reported THEN '' ELSE provider END, CASE WHEN reported THEN '' ELSE model END, reported, sum(requests), sum(input_tokens),
    sum(output_tokens), sum(cache_write_tokens), sum(cache_write_1h_tokens), sum(cache_read_tokens), sum(amount), sum(provider_cost)
FROM rollups_hourly WHERE account_id = $1 GROUP BY 1, 2, 3, 4"""
_DAYS: Final = """
INSERT INTO rollups_daily (
    shard, account_id, day, provider, model, reported, requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount, provider_cost,
    cache_write_1h_tokens)
SELECT shard, account_id, date_trunc('day', hour, 'UTC'), provider, model, reported, sum(requests), sum(input_tokens), sum(output_tokens),
    sum(cache_write_tokens), sum(cache_read_tokens), sum(amount), sum(provider_cost), sum(cache_write_1h_tokens)
FROM rollups_hourly WHERE account_id = $1 GROUP BY 1, 2, 3, 4, 5, 6"""
_WORK_DAYS: Final = """
INSERT INTO work_daily
SELECT shard, account_id, date_trunc('day', hour, 'UTC'), workspace_id, task_type, sum(requests), sum(input_tokens), sum(output_tokens),
    sum(cache_write_tokens), sum(cache_read_tokens), sum(amount)
FROM work_hourly WHERE account_id = $1 GROUP BY 1, 2, 3, 4, 5"""
_HOUSE_DAYS: Final = """
INSERT INTO house_daily
SELECT day, CASE WHEN reported THEN '' ELSE provider END, CASE WHEN reported THEN '' ELSE model END, reported, sum(requests), sum(input_tokens),
    sum(output_tokens), sum(cache_write_tokens), sum(cache_write_1h_tokens), sum(cache_read_tokens), sum(amount), sum(provider_cost)
FROM rollups_daily WHERE account_id = $1 GROUP BY 1, 2, 3, 4"""
_FIGURES: Final = "UPDATE accounts SET n = $2, active_at = now(), charged = 1 WHERE id = $1"


def write_history(database_url: str, redis_url: str, *, account: int, shard: int, events: int) -> None:
    """Give an account that has no transactions so many usage events, each a line of its statement, with the figures that come of them."""
    asyncio.run(_write(database_url, redis_url, account=account, shard=shard, events=events))


async def _write(database_url: str, redis_url: str, *, account: int, shard: int, events: int) -> None:
    driver: Any = asyncpg  # it ships no types
    connection = await driver.connect(database_url, command_timeout=SECONDS_MAX)
    try:
        await connection.fetch(_MONTHS, DAYS + 31)
        async with connection.transaction():
            await connection.execute(_WORKSPACES, account)
            await connection.execute(_EVENTS, account, shard, events, DAYS)
            for statement in (_LINES, _ROLLUPS, _WORK, _HOUSE, _DAYS, _WORK_DAYS, _HOUSE_DAYS):
                await connection.execute(statement, account)
            await connection.execute(_FIGURES, account, events)
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
    await _write_activity(redis_url, account=account, shard=shard)


def _counters(number: int) -> list[int]:
    """Return an hour unlike the one before."""
    counters = [0] * SIZE
    counters[Outcome.OK], counters[Outcome.CLIENT_ERROR] = 100 + number % 97, number % 5
    for place in range(4, 20):
        counters[SIZE - place] = number * place % 31
    return counters


async def _write_activity(redis_url: str, *, account: int, shard: int) -> None:
    redis = connect_redis(redis_url)
    balances, now = Balances(redis, instance=""), int(datetime.now(UTC).timestamp()) // 3600
    try:
        hours = range(now - DAYS * 24 + 1, now + 1)
        tallies = {(shard, account, hour, f"model-{model}"): _counters(hour * 7 + model) for hour in hours for model in range(ACTIVITY_MODELS)}
        await record_activity(balances, tallies, {(shard, account, "claude-code"): [120, now * 3_600_000]})
    finally:
        await redis.aclose()
