"""Rows that say which account made an object at a provider, collected and written with the charges they came with."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ledger.entries import AccountId
from ledger.queries import SQL


@dataclass(slots=True)
class MadeRows:
    """What the answers of one transaction left at their providers."""

    _rows: list[tuple[int, bytes, datetime]] = field(default_factory=list)

    def add(self, account: AccountId, digests: Iterable[str], at: datetime) -> None:
        """Note that `account` made these objects and may refer to them."""
        self._rows.extend((account, read_digest(digest), at) for digest in digests)

    async def flush(self, connection: Any) -> None:
        """Write them; what is known already stays as it is."""
        if self._rows:
            await connection.execute(SQL["insert_made"], *(list(column) for column in zip(*self._rows, strict=True)))


def read_digest(digest: str) -> bytes:
    """Return the bytes of a digest as the tables have them."""
    return base64.urlsafe_b64decode(digest)


def write_digest(row: bytes) -> str:
    """Return a digest of the tables as records and scripts have it."""
    return base64.urlsafe_b64encode(row).decode()
