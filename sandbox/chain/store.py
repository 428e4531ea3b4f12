"""The log of the cluster on disk: one line of JSON for whatever happened, written before anybody is told of it."""

import base64
import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from solders.account import Account
from solders.pubkey import Pubkey

from sandbox.chain.records import Record

LOG_NAME: Final = "log.jsonl"


class DamagedLog(Exception):
    """A line of the log, not the last one, cannot be read: the text says which."""


class Store:
    """Appends to the log of one cluster and reads it again. Without a folder it forgets everything."""

    def __init__(self, folder: Path | None) -> None:
        self._file: int | None = None
        self.path = folder / LOG_NAME if folder is not None else None
        if folder is not None and self.path is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield what was written, oldest first. A last line that a crash cut off is removed: nobody was told of it.

        Raises:
            DamagedLog: another line cannot be read.
        """
        if self.path is None:
            return
        with self.path.open("rb") as log:
            for number, line in enumerate(log, start=1):
                if not line.endswith(b"\n"):
                    os.truncate(self.path, log.tell() - len(line))
                    return
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DamagedLog(f"line {number} of {self.path} cannot be read") from error

    def append(self, kind: str, *, durable: bool = True, **fields: Any) -> None:
        """Write one line whole, or nothing of it; when `durable` it outlives a power failure too.

        Raises:
            OSError: the disk is full or fails.
        """
        if self._file is None:
            return
        line = json.dumps({"kind": kind, **fields}, separators=(",", ":")).encode() + b"\n"
        length = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(errno.ENOSPC, "the disk is full")
            if durable:
                os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, length)
            raise

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None


def write_account(account: Account | None) -> list[Any] | None:
    """Return an account as the log has it."""
    if account is None:
        return None
    return [account.lamports, str(account.owner), base64.b64encode(bytes(account.data)).decode(), account.executable, account.rent_epoch]


def read_account(fields: list[Any] | None) -> Account | None:
    """Return the account that the log has."""
    if fields is None:
        return None
    lamports, owner, data, executable, rent_epoch = fields
    return Account(lamports, base64.b64decode(data), Pubkey.from_string(owner), executable, rent_epoch)


def write_record(record: Record) -> dict[str, Any]:
    """Return a record as the log has it."""
    return {
        "signature": record.signature,
        "slot": record.slot,
        "block_time": record.block_time,
        "wire": base64.b64encode(record.wire).decode(),
        "keys": record.keys,
        "version": record.version,
        "fault": record.fault,
        "memo": record.memo,
        "changed": record.changed,
        "meta": record.meta,
    }


def read_record(fields: Mapping[str, Any], order: int) -> Record:
    """Return the record that the log has."""
    return Record(
        signature=fields["signature"],
        slot=fields["slot"],
        order=order,
        block_time=fields["block_time"],
        wire=base64.b64decode(fields["wire"]),
        keys=tuple(fields["keys"]),
        version=fields["version"],
        fault=fields["fault"],
        memo=fields["memo"],
        changed=tuple(fields["changed"]),
        meta=fields["meta"],
    )
