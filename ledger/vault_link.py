"""What all parts of the ledger of deposits stand on: both stores, and the rule that a restored journal first catches up."""

from collections.abc import Mapping

from ledger.balances import Balances
from ledger.changes import require_current
from ledger.deposit_values import Cursor
from ledger.errors import BalanceUnavailable
from ledger.holds import ShardMeta
from ledger.journal import Connection, Pool, read_shards


class VaultLink:
    """Both stores of the books."""

    def __init__(self, pool: Pool, balances: Balances) -> None:
        self._pool, self._balances = pool, balances

    async def _glance(self) -> Mapping[int, ShardMeta | None]:
        """Return what Redis knows of its shards; nothing where it does not answer."""
        try:
            return await self._balances.read_all_meta()
        except BalanceUnavailable:
            return {}


async def require_all_current(connection: Connection, hot: Mapping[int, ShardMeta | None]) -> None:
    """Refuse to go on while any shard of a restored journal still lacks what Redis has seen of it.

    What it lacks may be the very credit of a deposit, to an account of any shard, or an account that a deposit names.

    Raises:
        JournalUnavailable: the journal is being brought up to date.
    """
    for shard, position in (await read_shards(connection)).items():
        require_current(position, hot.get(shard))


def read_cursor(row: Mapping[str, object]) -> Cursor:
    """Read the cursor out of a row of `vaults`."""
    signature = row["cursor_signature"]
    return Cursor(
        signature=None if signature is None else str(signature), slot=int(str(row["cursor_slot"])), balance=int(str(row["cursor_balance"]))
    )  # fmt: skip
