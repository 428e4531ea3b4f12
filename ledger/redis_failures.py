"""What the failures of Redis mean to the books, and after which of them it is asked again."""

import asyncio

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ResponseError

from ledger.errors import BalanceUnavailable, BooksUnderPressure, BrokenInvariant

PAUSES = (0.02, 0.1, None)  # seconds after each loss of the connection; then it is given up


async def pause_or_raise(error: Exception, pause: float | None) -> None:
    """Wait until a lost connection may be tried again; raise what any other failure, or the last of these, means to the books.

    Raises:
        NoScriptError: as it came; the caller has the script.
        BalanceUnavailable, BooksUnderPressure, BrokenInvariant: as `ledger.shard_link.ShardLink.call` says.
    """
    match error:
        case RedisConnectionError() if pause is not None:
            await asyncio.sleep(pause)
        case RedisConnectionError():
            raise BalanceUnavailable(f"Redis is away: {error}") from error
        case NoScriptError():
            raise error
        case OutOfMemoryError():
            raise BooksUnderPressure("Redis is full") from error
        case ResponseError() if "INVALID" in str(error):
            raise BrokenInvariant(str(error)) from error
        case ResponseError():
            raise BalanceUnavailable(f"Redis refused: {error}") from error
        case _:
            raise BalanceUnavailable(f"Redis did not answer: {error}") from error
