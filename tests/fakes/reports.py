"""Reporting usage to whole books, in few words."""

from dataclasses import dataclass
from typing import Any

from ledger.ingest import Ingest
from ledger.ingest_values import IngestKey, IngestOutcome, IngestPolicy, UsageItem
from ledger.keys import Keys, parse_key
from ledger.tokens import new_request_id
from tests.fakes.books import Books

LIMITS = {"free": 10_000, "pro": None}
FLAG = IngestPolicy(block_over_balance=True, block_over_free_limit=False, tracked_limits=LIMITS, outbox_max=100_000)
BLOCK = IngestPolicy(block_over_balance=True, block_over_free_limit=True, tracked_limits=LIMITS, outbox_max=100_000)
AT = 1_750_000_000_000


def item(line: int = 0, **fields: Any) -> UsageItem:
    """An event of the provider anthropic, with what is given."""
    plain: dict[str, Any] = {"provider": "anthropic", "model": "claude-sonnet-4-6", "task_type": "general", "source": "api", "occurred_at": AT}
    return UsageItem(line=line, **(plain | fields))


def items(*costs: int, tokens: int = 1) -> list[UsageItem]:
    """An event of each cost."""
    return [item(line, input_tokens=tokens, cost=cost) for line, cost in enumerate(costs)]


@dataclass
class Reporter:
    """Somebody with an ingest key."""

    books: Books
    ingest: Ingest
    key: IngestKey

    async def report(self, *costs: int, tokens: int = 1, policy: IngestPolicy = FLAG) -> IngestOutcome:
        """Report an event of each cost."""
        return await self.ingest.charge_usage(self.key, new_request_id(), items(*costs, tokens=tokens), policy=policy)


async def open_reporter(books: Books, balance: int = 0) -> Reporter:
    """Open an account with so much money and give it an ingest key."""
    new = await books.open_account(balance)
    made = await Keys(books.pool, books.balances).create(new.account, "agent")
    return Reporter(books, Ingest(books.pool, books.balances), parse_key(made.text))
