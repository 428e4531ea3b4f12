"""What the gateway saw, in Redis: gathered in each worker, flushed every few seconds, kept ninety days, read by the control API.

Counters beside the books and never of them: what is lost is lost, and nothing waits for it. All keys bear their shard's hash tag
and outlive its epochs; the house's own sums are in the house shard. An account has one hash for each day, with a field for each hour and
model, and one for its clients.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ledger.activity_values import CLIENTS_MAX, KEPT_DAYS, MODEL_LENGTH_MAX, MODELS_MAX, Activity, ClientSeen, text_of
from ledger.balances import Balances
from ledger.entries import HOUSE_SHARD, AccountId
from ledger.errors import BalanceUnavailable
from ledger.moments import EPOCH
from ledger.stores import redis_command, redis_pipeline

type TallyKey = tuple[int, int, int, str]  # shard, account, hours since the epoch, model
type ClientKey = tuple[int, int, str]  # shard, account, family
type Sighting = list[int]  # requests, and milliseconds of the last
type Tallies = Mapping[TallyKey, Sequence[int]]
type Sightings = Mapping[ClientKey, Sighting]

HOUSE: Final = AccountId(0)
HOUSE_MODELS_MAX: Final = 300
ENTRIES_MAX: Final = 400  # of one script, so that no flush keeps a shard from others for long
_KEPT_SECONDS: Final = (KEPT_DAYS + 1) * 86_400


async def record_activity(balances: Balances, tallies: Tallies, clients: Sightings) -> tuple[dict[TallyKey, Sequence[int]], dict[ClientKey, Sighting]]:
    """Add what a worker saw, to each account and to the house; return what could not be added, to be tried again.

    Where Redis is nearly full nothing is added and nothing comes back: counters must not take the room of balances.

    Raises:
        BalanceUnavailable: Redis did not answer at all.
    """
    if await balances.under_pressure():
        return {}, {}
    parts: dict[int, list[tuple[TallyKey | ClientKey, tuple[str | int, ...]]]] = {}
    for key, counters in tallies.items():
        parts.setdefault(key[0], []).append((key, _hour_words(key[1], key[2], key[3], counters)))
    for seen_key, seen in clients.items():
        parts.setdefault(seen_key[0], []).append((seen_key, ("c", seen_key[1], seen_key[2], seen[0], seen[1], "")))
    failed: set[TallyKey | ClientKey] = set()
    for keys in await asyncio.gather(*(_add(balances, shard, entries) for shard, entries in parts.items())):
        failed |= keys
    left = {key: counters for key, counters in tallies.items() if key in failed}
    left_clients = {key: seen for key, seen in clients.items() if key in failed}
    added = {key: counters for key, counters in tallies.items() if key not in failed}
    await _add_house(balances, added, {key: seen for key, seen in clients.items() if key not in failed})
    return left, left_clients


async def _add_house(balances: Balances, tallies: Tallies, clients: Sightings) -> None:
    """Add to the house's sums what accounts were counted for; what fails here is lost."""
    hours: dict[tuple[int, str], list[int]] = {}
    for (shard, _, hour, model), counters in tallies.items():
        if shard != HOUSE_SHARD:
            sums = hours.setdefault((hour, model), [0] * len(counters))
            sums[:] = map(int.__add__, sums, counters)
    seen: dict[str, Sighting] = {}
    for (shard, _, family), (count, at_ms) in clients.items():
        if shard != HOUSE_SHARD:
            before = seen.get(family, [0, 0])
            seen[family] = [before[0] + count, max(before[1], at_ms)]
    entries: list[tuple[Any, tuple[str | int, ...]]] = [(None, _hour_words(HOUSE, hour, model, sums)) for (hour, model), sums in hours.items()]
    entries += [(None, ("c", HOUSE, family, count, at_ms, "")) for family, (count, at_ms) in seen.items()]
    await _add(balances, HOUSE_SHARD, entries)


async def _add[Key](balances: Balances, shard: int, entries: Sequence[tuple[Key, tuple[str | int, ...]]]) -> set[Key]:
    """Add entries to one shard, a few hundred at a time; return the keys of those that were not added."""
    models_max = HOUSE_MODELS_MAX if shard == HOUSE_SHARD else MODELS_MAX
    for start in range(0, len(entries), ENTRIES_MAX):
        part = entries[start : start + ENTRIES_MAX]
        try:
            await balances.call("add_activity", shard, _KEPT_SECONDS, models_max, CLIENTS_MAX, *(word for _, words in part for word in words))
        except BalanceUnavailable:
            return {key for key, _ in entries[start:]}
    return set()


def _hour_words(account: int, hour: int, model: str, counters: Sequence[int]) -> tuple[str | int, ...]:
    at = EPOCH + timedelta(hours=hour)
    return ("h", account, f"{at:%Y%m%d}", f"{at:%H}", model[:MODEL_LENGTH_MAX], text_of(counters))


async def read_activity(balances: Balances, account: AccountId, shard: int, *, since: datetime, until: datetime) -> Activity:
    """Return what was seen of an account from the hour of `since` on and before `until`, at most the last ninety days.

    Raises:
        BalanceUnavailable: Redis did not answer.
    """
    first, last = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0), until.astimezone(UTC)
    days = list(_days(max(first, datetime.now(UTC) - timedelta(days=KEPT_DAYS)), last))
    if not days:
        return Activity({})
    answers = await redis_pipeline(balances, [("HGETALL", f"{_prefix(shard, account)}{day:%Y%m%d}") for day in days])
    hours: dict[datetime, dict[bytes, bytes]] = {}
    for day, answer in zip(days, answers, strict=True):
        for number, models in sorted(_hours(answer).items()):
            if first <= (hour := day + timedelta(hours=int(number))) < last:
                hours[hour] = models
    return Activity(hours)


async def read_clients(balances: Balances, account: AccountId, shard: int) -> list[ClientSeen]:
    """Return the clients that an account used in the last ninety days, the latest first, at most 40.

    Raises:
        BalanceUnavailable: Redis did not answer.
    """
    oldest = datetime.now(UTC) - timedelta(days=KEPT_DAYS)
    seen = []
    for family, value in _pairs(await redis_command(balances, "HGETALL", f"{_prefix(shard, account)}clients")):
        count, last = value.split()
        seen.append(ClientSeen(family=family.decode(errors="replace"), requests=int(count), last_seen=EPOCH + timedelta(milliseconds=int(last))))
    return sorted((each for each in seen if each.last_seen >= oldest), key=lambda each: (each.last_seen, each.family), reverse=True)


async def read_house_activity(balances: Balances, *, since: datetime, until: datetime) -> Activity:
    """Return what was seen of all accounts together, requests without a known account included.

    Raises:
        BalanceUnavailable: Redis did not answer.
    """
    return await read_activity(balances, HOUSE, HOUSE_SHARD, since=since, until=until)


async def read_house_clients(balances: Balances) -> list[ClientSeen]:
    """Return the clients of all accounts, the latest first, at most 40.

    Raises:
        BalanceUnavailable: Redis did not answer.
    """
    return await read_clients(balances, HOUSE, HOUSE_SHARD)


def _prefix(shard: int, account: int) -> str:
    return f"l5:{{{shard}}}:act:{account}:"


def _days(first: datetime, last: datetime) -> Iterable[datetime]:
    day = first.replace(hour=0, minute=0, second=0, microsecond=0)
    while day < last:
        yield day
        day += timedelta(days=1)


def _hours(answer: Any) -> dict[bytes, dict[bytes, bytes]]:
    """Return the models of each hour of a day, by the hour's two digits."""
    hours: dict[bytes, dict[bytes, bytes]] = {}
    for field, value in _pairs(answer):
        if field.startswith(b"h"):
            hours.setdefault(field[1:3], {})[field[3:]] = value
    return hours


def _pairs(answer: Any) -> Iterable[tuple[bytes, bytes]]:
    """Return the fields of a hash, in whichever form the client gives them."""
    return answer.items() if isinstance(answer, Mapping) else zip(answer[::2], answer[1::2], strict=True)
