"""A past for an account: roll-ups as the poster would have written them in the weeks before. No money moves, so that only pages see it."""

import asyncio
import random
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from cli.embedded import postgres_url
from config.settings import SANDBOX_FOLDER
from ledger.tokens import parse_token
from tests.fakes.appliance import Account, Appliance

MODELS: Final = (
    ("anthropic", "claude-sonnet-4-6", 40), ("anthropic", "claude-haiku-4-5", 22), ("openai", "gpt-5.4", 16), ("openai", "gpt-5.4-mini", 9),
    ("openrouter", "glm-5", 6), ("openrouter", "kimi-k2.5", 4), ("openrouter", "deepseek-v3.2", 3),
)  # fmt: skip
PLACES: Final = "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12"
COLUMNS: Final = "shard, account_id, hour, provider, model, requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount, provider_cost"
DAILY: Final = f"""
INSERT INTO rollups_daily ({COLUMNS.replace("hour", "day")})
SELECT shard, account_id, date_trunc('day', hour, 'UTC'), provider, model, {", ".join(f"sum({column})" for column in COLUMNS.split(", ")[5:])}
FROM rollups_hourly WHERE account_id = $1 AND NOT reported GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (shard, account_id, day, provider, model, reported) DO UPDATE SET amount = excluded.amount, requests = excluded.requests"""
UPSERT: Final = f"INSERT INTO rollups_hourly ({COLUMNS}) VALUES ({PLACES}) ON CONFLICT DO NOTHING"


def write_history(appliance: Appliance, account: Account, *, days: int = 90, models: Sequence[tuple[str, str, int]] = MODELS, scale: int = 1) -> None:
    """Let an account have worked on weekdays for so many days, the same each time."""
    token, dice = parse_token(account.api_token), random.Random(5)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    rows = []
    for back in range(1, days * 24):
        hour = now - timedelta(hours=back)
        busy = 6 if 8 <= hour.hour <= 18 else 1
        busy = busy // 3 if hour.weekday() >= 5 else busy
        for provider, model, weight in models:
            requests = dice.randrange(busy * weight + 1) // 4
            if requests:
                fresh, cached, out = (requests * dice.randrange(*span) for span in ((200, 4000), (0, 20_000), (100, 1500)))
                amount = (fresh * 33 + out * 165 + cached * 3) * weight * scale // 400
                rows.append((token.shard, token.account, hour, provider, model, requests, fresh, out, cached // 9, cached, amount, amount * 10 // 11))
    _run(appliance, rows)


def _run(appliance: Appliance, rows: list[tuple[object, ...]]) -> None:
    async def write() -> None:
        connection = await asyncpg.connect(postgres_url(appliance.home / SANDBOX_FOLDER))
        try:
            await connection.executemany(UPSERT, rows)
            await connection.execute(DAILY, rows[0][1])
        finally:
            await connection.close()

    # In a thread: the tests of pages have an event loop running already, the browser's.
    writing = threading.Thread(target=lambda: asyncio.run(write()))
    writing.start()
    writing.join(60)
