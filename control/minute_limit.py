"""How often a minute somebody may do something that costs us: open an account, ask for a transaction, try a claim.

The count is kept in Redis: control processes share it, a restart does not forget it, and without Redis none of these
can be done anyway, since the limit would have to guess. What it holds is bounded by what was really admitted within
the last minute, at most `per_minute` entries for each: a refusal writes nothing.
"""

from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Protocol, cast

from control.errors import ApiError
from ledger.errors import BalanceUnavailable

WINDOW_MILLISECONDS = 60_000
_SCRIPT = (Path(__file__).parent / "admit.lua").read_text(encoding="utf-8")


class Redis(Protocol):
    """The one command of Redis that a limit needs."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a script."""


class MinuteLimit:
    """At most `per_minute` within any minute for one caller; 0 is no limit. `name` tells the limits apart in Redis."""

    def __init__(self, redis: Redis, name: str, *, per_minute: int) -> None:
        self._redis, self.name, self.per_minute = redis, name, per_minute

    def key(self, who: str) -> str:
        """Return the name under which the admissions of `who` stand in Redis."""
        return f"l5:{self.name}:{who}"

    async def admit(self, who: str) -> int:
        """Count one and return 0, or return the seconds until one will be admitted.

        Raises:
            BalanceUnavailable: Redis did not answer; it may have been counted.
        """
        if self.per_minute == 0:
            return 0
        try:
            waiting = await cast("Awaitable[Any]", self._redis.eval(_SCRIPT, 1, self.key(who), self.per_minute, WINDOW_MILLISECONDS))
        except Exception as error:  # whatever the client raises: the answer is missing
            raise BalanceUnavailable(f"the limit of {self.name} could not be read") from error
        return -(-int(waiting) // 1000)

    async def require(self, who: str, code: str, *, what: str) -> None:
        """Count one of `what` ("claims … from one account") against the limit of `who`.

        Raises:
            ApiError: 429 with Retry-After.
            BalanceUnavailable: Redis did not answer.
        """
        seconds = await self.admit(who)
        if seconds > 0:
            raise ApiError(
                429,
                code,
                message=f"{self.per_minute} {what.replace('…', 'a minute are allowed')}; try again in {seconds} seconds.",
                details={"limit_per_minute": self.per_minute, "retry_after_seconds": seconds},
                headers={"Retry-After": str(seconds)},
            )
