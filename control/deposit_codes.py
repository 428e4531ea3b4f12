"""The deposit code of an account, remembered: it never changes, and a balance must be told while Postgres is away."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ledger.accounts import Accounts
from ledger.entries import AccountId

CODES_MAX: Final = 100_000
READ_SECONDS_MAX: Final = 0.5
REST_SECONDS: Final = 5.0


class DepositCodes:
    """Asks the journal once for each account; after a failure it is left in peace for a while."""

    def __init__(self, accounts: Accounts, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._accounts, self._clock = accounts, clock
        self._known: OrderedDict[AccountId, str] = OrderedDict()
        self._ask_from = 0.0
        self._questions: set[asyncio.Task[str]] = set()

    def remember(self, account: AccountId, deposit_code: str) -> None:
        """Keep a code; the one that was not used for longest makes room."""
        self._known[account] = deposit_code
        self._known.move_to_end(account)
        if len(self._known) > CODES_MAX:
            self._known.popitem(last=False)

    async def find(self, account: AccountId) -> str | None:
        """Return the account's code, or None where the journal would have to be asked and does not answer."""
        code = self._known.get(account)
        if code is None and self._clock() >= self._ask_from:
            code = await self._ask(account)
        if code is not None:
            self.remember(account, code)
        return code

    async def _ask(self, account: AccountId) -> str | None:
        # In a task of its own: a database that hangs, instead of failing, also hangs the cancelling of a question.
        question = asyncio.create_task(self._read(account))
        self._questions.add(question)
        question.add_done_callback(self._questions.discard)
        await asyncio.wait({question}, timeout=READ_SECONDS_MAX)
        if question.done() and not question.cancelled() and question.exception() is None:
            return question.result()
        self._ask_from = self._clock() + REST_SECONDS
        return None

    async def _read(self, account: AccountId) -> str:
        return (await self._accounts.find(str(account))).deposit_code
