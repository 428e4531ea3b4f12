"""Charging together what waits at the same time: requests of one ingest key go to their shard in one script call.

While one call is under way, the next ones gather: the shard would not have begun with them any sooner, and looks at their account
once instead of once for each. Every request keeps its own entry, its own answer and its own id; only the journey is shared, so
whoever gets no answer knows no more and no less than if it had gone alone.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ledger.balances import Balances
from ledger.entries import RequestId
from ledger.errors import BalanceUnavailable
from ledger.ingest_values import BALANCE_MIN, Charged, IngestKey, IngestPolicy
from ledger.shard_link import Answer
from ledger.usage_record import UsageDraft

REMEMBERED_MS: Final = 60_000  # how long the shard knows a request: a call and its repeats take a few seconds
GROUP_MAX: Final = 64  # requests of one call: some two milliseconds in which a shard's Redis does nothing else
GROUP_CHARACTERS_MAX: Final = 200_000  # a large request goes alone
WAITING_MAX: Final = 4096


@dataclass(slots=True)
class _Waiting:
    """A request on its way, and who waits for its answer."""

    request_id: RequestId
    draft: UsageDraft
    claimed: bool
    charged: "asyncio.Future[Charged]"


@dataclass(slots=True)
class _Queue:
    """What waits for one key in one epoch, and the task that sends it."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    sending: asyncio.Task[None] | None = None


class ChargeGroups:
    """Charges drafts of one policy at a time."""

    def __init__(self, balances: Balances) -> None:
        self._balances = balances
        self._queues: dict[tuple[IngestKey, int, int], _Queue] = {}

    async def charge(self, key: IngestKey, request_id: RequestId, draft: UsageDraft, *, policy: IngestPolicy, epoch: int, claimed: bool) -> Charged:
        """Charge a request in `epoch`; `claimed` says that it carries idempotency keys. Cancelling gives up the answer alone.

        Raises:
            ShardClosed, BalanceUnavailable, BooksUnderPressure, BrokenInvariant: as the script call says, for all that went with it.
        """
        name = (key, epoch, id(policy))  # the queue's task keeps the policy, so that its id is nobody else's
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = _Queue()
            queue.sending = asyncio.create_task(self._send_all(name, queue, policy), name="charge-usage")
        elif len(queue.waiting) >= WAITING_MAX:
            raise BalanceUnavailable(f"{WAITING_MAX} reports of one key wait already")
        one = _Waiting(request_id, draft, claimed, asyncio.get_running_loop().create_future())
        queue.waiting.append(one)
        return await one.charged

    async def _send_all(self, name: tuple[IngestKey, int, int], queue: _Queue, policy: IngestPolicy) -> None:
        """Send group after group until none waits; the queue goes with its task."""
        key, epoch, _ = name
        await asyncio.sleep(0)  # what is asked in this turn goes with the first group
        group, call = self._send(key, epoch, queue.waiting, policy)
        while group:
            await asyncio.wait((call,))
            sent, done = group, call
            # The next ones leave first, so that Redis works on them while these are answered.
            group, call = self._send(key, epoch, queue.waiting, policy) if queue.waiting else ([], call)
            _tell(sent, done)
        del self._queues[name]

    def _send(self, key: IngestKey, epoch: int, waiting: deque[_Waiting], policy: IngestPolicy) -> "tuple[list[_Waiting], asyncio.Task[Answer]]":
        """Begin the call for the next ones that wait."""
        group = _take_group(waiting)
        words = [word for one in group for word in _words(one)]
        call = self._balances.run(
            "charge_usage", key.shard, key.account, key.digest, int(policy.block_over_balance), int(policy.block_over_free_limit), policy.limits_text,
            policy.outbox_max, REMEMBERED_MS, -BALANCE_MIN, *words, epoch=epoch,
        )  # fmt: skip
        return group, asyncio.Task(call, loop=asyncio.get_running_loop(), eager_start=True, name="charge-usage-call")


def _tell(group: Sequence[_Waiting], call: "asyncio.Task[Answer]") -> None:
    """Give each of a group its answer, or the failure of all."""
    error = call.exception()
    if error is not None:
        for one in group:
            if not one.charged.done():
                one.charged.set_exception(error)
        return
    answer = call.result()
    tier, org_id, funded = answer[3].decode(), answer[4].decode(), bool(answer[5])
    for one, told in zip(group, answer[6:], strict=True):
        if not one.charged.done():
            one.charged.set_result(_read(told, tier=tier, org_id=org_id, funded=funded))


def _take_group(waiting: deque[_Waiting]) -> list[_Waiting]:
    """Take the next ones that fit into one call, at least one."""
    group = [waiting.popleft()]
    characters = len(group[0].draft.items)
    while waiting and len(group) < GROUP_MAX:
        characters += len(waiting[0].draft.items)
        if characters > GROUP_CHARACTERS_MAX:
            break
        group.append(waiting.popleft())
    return group


def _words(one: _Waiting) -> tuple[str | int, ...]:
    return one.request_id, one.draft.head, one.draft.items, one.draft.tokens, one.draft.cost, int(one.claimed)


def _read(told: Answer, *, tier: str, org_id: str, funded: bool) -> Charged:
    status, used, mask, balance, available = told
    return Charged(status.decode(), used, mask.decode(), balance, available, tier, org_id, funded)
