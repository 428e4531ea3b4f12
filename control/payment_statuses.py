"""How far transactions that somebody waits for have come on chain, as an RPC provider says it: for people to look at, never for money.

However many people wait, a provider is asked at most once in `PAUSE_SECONDS`, for all of their transactions together.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from control.rpc_providers import NoProvider

PAUSE_SECONDS: Final = 1.5
ANSWER_SECONDS_MAX: Final = 1.0  # that one who looks waits for it; the answer that comes later is shown at the next look
WATCHED_SECONDS: Final = 15.0  # after the last look of somebody
WATCHED_MAX: Final = 256  # what a provider takes in one question
COMMITMENTS: Final = ("processed", "confirmed", "finalized")


@dataclass(frozen=True, slots=True)
class ChainLook:
    """What a provider said: `commitment` is one of COMMITMENTS; `failed` tells that the transaction landed and moved nothing."""

    commitment: str
    failed: bool


class Asked(Protocol):
    """Whoever can be asked about the chain."""

    def ask(self, method: str, *params: object) -> Coroutine[Any, Any, Any]:
        """Return the result of one call."""


class PaymentStatuses:
    """Remembers who waits for what, and what was said last."""

    def __init__(self, rpc: Asked, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rpc, self._clock = rpc, clock
        self._watched: OrderedDict[str, float] = OrderedDict()
        self._seen: Mapping[str, ChainLook] = {}
        self._question: asyncio.Task[Mapping[str, ChainLook]] | None = None
        self._ask_from = float("-inf")

    async def look(self, signature: str) -> ChainLook | None:
        """Return what is known of a transaction, None where no provider has seen it or none answers."""
        now = self._clock()
        self._watched[signature] = now
        self._watched.move_to_end(signature)
        while len(self._watched) > WATCHED_MAX or now - next(iter(self._watched.values())) > WATCHED_SECONDS:
            self._watched.popitem(last=False)
        if (self._question is None or self._question.done()) and now >= self._ask_from:
            self._ask_from = now + PAUSE_SECONDS
            self._question = asyncio.create_task(self._ask(list(self._watched)))
        if self._question is not None and not self._question.done():
            await asyncio.wait({self._question}, timeout=ANSWER_SECONDS_MAX)
        return self._seen.get(signature)

    async def _ask(self, signatures: Sequence[str]) -> Mapping[str, ChainLook]:
        try:
            result = await self._rpc.ask("getSignatureStatuses", signatures, {"searchTransactionHistory": False})
            self._seen = _read(signatures, result["value"])
        except (NoProvider, LookupError, TypeError, ValueError):
            self._seen = {}  # what was true before may have been dropped by a fork meanwhile
        return self._seen


def _read(signatures: Sequence[str], rows: Sequence[Any]) -> dict[str, ChainLook]:
    return {
        signature: ChainLook(row["confirmationStatus"], row["err"] is not None)
        for signature, row in zip(signatures, rows, strict=True)
        if row is not None and row["confirmationStatus"] in COMMITMENTS
    }
