"""How many accounts one network may open a minute.

The count is kept in Redis: control processes share it, a restart does not forget it, and without Redis nobody can
register anyway, since the limit would have to guess. What it holds is bounded by the accounts that were really
opened within the last minute, at most `limit` times per network: a refusal writes nothing.
"""

from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Protocol, cast

from ledger.errors import BalanceUnavailable

WINDOW_MILLISECONDS = 60_000
KEY_PREFIX = "l5:register:"
_SCRIPT = (Path(__file__).parent / "admit_registration.lua").read_text(encoding="utf-8")


class Redis(Protocol):
    """The one command of Redis that the limit needs."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a script."""


class RegisterLimit:
    """At most `limit` registrations within any minute for one network; 0 is no limit."""

    def __init__(self, redis: Redis, limit: int) -> None:
        self._redis, self._limit = redis, limit

    async def admit(self, network: str) -> int:
        """Count one registration and return 0, or return the seconds until one will be admitted.

        Raises:
            BalanceUnavailable: Redis did not answer; it may have been counted.
        """
        if self._limit == 0:
            return 0
        try:
            waiting = await cast("Awaitable[Any]", self._redis.eval(_SCRIPT, 1, KEY_PREFIX + network, self._limit, WINDOW_MILLISECONDS))
        except Exception as error:  # whatever the client raises: the answer is missing
            raise BalanceUnavailable("the register limit could not be read") from error
        return -(-int(waiting) // 1000)
