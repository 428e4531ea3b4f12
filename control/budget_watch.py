"""Which workspaces have used up nearly all of their budget: looked up every half minute, so that an answer can say so without asking the journal."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from ledger.errors import JournalUnavailable
from ledger.ingest_values import BudgetUse
from ledger.workspaces import Workspaces

REFRESH_SECONDS: Final = 30.0


class BudgetWatch:
    """The budgets of all accounts that are nearly used up, or more than that, by their workspace's id; half a minute old at most."""

    def __init__(self, workspaces: Workspaces) -> None:
        self._workspaces = workspaces
        self._near: dict[str, BudgetUse] = {}

    @property
    def near(self) -> Mapping[str, BudgetUse]:
        """What was found last: always the same mapping, whose content changes."""
        return self._near

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Look now. While the journal is away what was known stays: a warning refuses nothing."""
        month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        try:
            found = await self._workspaces.budgets_nearly_used(since=month)
        except JournalUnavailable:
            return
        self._near.clear()
        self._near.update(found)
