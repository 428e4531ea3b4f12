"""What the gateway saw, in Redis: gathered in each worker, flushed every few seconds, kept ninety days, read by the control API.

Counters beside the books and never of them: what is lost is lost, and nothing waits for it. All keys bear their shard's hash tag
and outlive its epochs; the house's own sums are in the house shard.
"""

from datetime import datetime

from ledger.activity_values import Activity, ClientSeen
from ledger.balances import Balances
from ledger.entries import AccountId


async def read_activity(balances: Balances, account: AccountId, shard: int, *, since: datetime, until: datetime) -> Activity:
    """Return what was seen of an account from the hour of `since` on and before `until`, at most the last ninety days.

    Raises:
        BalanceUnavailable: Redis did not answer.
    """
    raise NotImplementedError


async def read_clients(balances: Balances, account: AccountId, shard: int) -> list[ClientSeen]:
    """Return the clients that an account used in the last ninety days, the latest first, at most 40.

    Raises:
        BalanceUnavailable: Redis did not answer.
    """
    raise NotImplementedError


async def read_house_activity(balances: Balances, *, since: datetime, until: datetime) -> Activity:
    """Return what was seen of all accounts together, requests without a known account included.

    Raises:
        BalanceUnavailable: Redis did not answer.
    """
    raise NotImplementedError


async def read_house_clients(balances: Balances) -> list[ClientSeen]:
    """Return the clients of all accounts, the latest first, at most 40.

    Raises:
        BalanceUnavailable: Redis did not answer.
    """
    raise NotImplementedError
