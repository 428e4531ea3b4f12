"""Charges on disk: what Redis or the journal could not take yet, kept through a crash of this process.

One folder for all processes of a machine. Each writes files of its own, JSON lines, and holds a lock
on them as long as it lives; a file whose owner has died is adopted by whoever gets its lock. Every line
is on the disk before `append` returns. Replaying is idempotent, so a file is removed only as a whole,
after all of it was delivered.
"""

import fcntl
import json
import os
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from ledger.entries import AccountId, ChargeRecord, RequestId

log = structlog.get_logger("ledger")

SUFFIX = ".charges"
LINES_MAX = 500  # per file, so that reading one never keeps the process busy for long
BYTES_MAX = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpostedCharge:
    """A charge that the journal is not known to have.

    `seq` is its number in the outbox of `epoch`, 0 while the hot balances have not taken it; `server` names the run
    of Redis that gave it. `late` tells that only the journal may take it.
    """

    record: ChargeRecord
    account: AccountId
    shard: int
    epoch: int
    seq: int = 0
    server: str = ""
    late: bool = False

    def to_line(self) -> bytes:
        """Return one line of a spool file."""
        head = {"account": self.account, "shard": self.shard, "epoch": self.epoch, "seq": self.seq, "server": self.server, "late": self.late}
        return json.dumps({**head, "record": self.record.to_json()}, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "UnpostedCharge":
        """Read such a line back.

        Raises:
            ValueError: it is not one.
        """
        fields = json.loads(line)
        try:
            return cls(**{**fields, "record": ChargeRecord.from_json(fields["record"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a spooled charge: {error}") from error


@dataclass(slots=True, eq=False)
class SpoolFile:
    """One file that this process has locked. `delivered` and `settled` (seq and server by id) are what it learned since."""

    path: Path
    descriptor: int
    lines: int = 0
    size: int = 0
    sealed: bool = False
    delivered: set[RequestId] = field(default_factory=set)
    settled: dict[RequestId, tuple[int, str]] = field(default_factory=dict)
    waiting: dict[tuple[int, int, str], int] | None = None  # by shard, epoch and server the lowest seq, once nothing else is missing


class Spool:
    """The spool folder as one process sees it. Safe to call from several threads."""

    def __init__(self, folder: Path, *, bytes_max: int = BYTES_MAX) -> None:
        self._folder, self._bytes_max = folder, bytes_max
        self._files: list[SpoolFile] = []
        self._lock = threading.Lock()

    @property
    def depth(self) -> int:
        """How many charges lie in this process's files."""
        return sum(file.lines for file in self._files)

    def append(self, record: ChargeRecord, account: AccountId, shard: int, epoch: int) -> None:
        """Keep one charge that the hot balances have not taken; it is on the disk on return.

        Raises:
            OSError: it could not be written; nothing of it is left in the file.
        """
        self.append_all([UnpostedCharge(record=record, account=account, shard=shard, epoch=epoch)])

    def append_all(self, charges: Sequence[UnpostedCharge]) -> None:
        """Keep charges, with one wait for the disk per file.

        Raises:
            OSError: they could not all be written; some may be kept, which a replay settles by itself.
        """
        with self._lock:
            for start in range(0, len(charges), LINES_MAX):
                part = charges[start : start + LINES_MAX]
                file = self._writable_file(len(part))
                self._write(file, b"".join(charge.to_line() for charge in part))
                file.lines += len(part)
                file.waiting = None

    def writable(self) -> bool:
        """Tell whether the next charge could be kept: the folder takes a file, and the spool is not full."""
        probe = self._folder / f".{os.getpid()}-{uuid.uuid4().hex}.probe"
        try:
            self._prepare_folder()
            descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, b"\n" * 4096)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
                probe.unlink()
        except OSError:
            log.exception("spool_not_writable", folder=str(self._folder))
            return False
        return sum(file.size for file in self._files) < self._bytes_max

    def replay(self) -> list[SpoolFile]:
        """Return the files to deliver, having adopted those whose owners have died."""
        with self._lock:
            mine = {file.path for file in self._files}
            try:
                found = sorted(path for path in self._folder.glob(f"*{SUFFIX}") if path not in mine)
            except OSError:
                found = []
            for path in found:
                file = _adopt(path)
                if file is not None:
                    self._files.append(file)
            return list(self._files)

    def read(self, file: SpoolFile) -> list[UnpostedCharge]:
        """Return the charges of a file. A last line that was cut short was never promised to anyone.

        A whole line that cannot be read is told in the log, and its file kept beside the others.
        """
        with self._lock:
            content = os.pread(file.descriptor, file.size, 0)
        charges = []
        for line in content.split(b"\n")[:-1]:
            try:
                charges.append(UnpostedCharge.from_line(line))
            except ValueError:
                log.exception("spool_line_unreadable", file=file.path.name)
        return charges

    def remove(self, file: SpoolFile, *, delivered: int) -> None:
        """Remove a file of which `delivered` charges are all delivered, unless it has grown since it was read."""
        with self._lock:
            if file.lines > delivered:
                if not file.sealed:
                    file.sealed = True  # the rest is delivered with the next round, and the file can go
                    return
                file.path.rename(file.path.with_suffix(".unreadable"))
            else:
                file.path.unlink(missing_ok=True)
            os.close(file.descriptor)
            self._files.remove(file)

    def close(self) -> None:
        """Let go of all files, so that another process adopts them."""
        with self._lock:
            for file in self._files:
                os.close(file.descriptor)
            self._files.clear()

    def _prepare_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _writable_file(self, lines: int) -> SpoolFile:
        for file in self._files:
            if not file.sealed and file.lines + lines <= LINES_MAX:
                return file
            file.sealed = True
        self._prepare_folder()
        path = self._folder / f"{os.getpid()}-{uuid.uuid4().hex}{SUFFIX}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            raise
        file = SpoolFile(path, descriptor)
        self._files.append(file)
        return file

    def _write(self, file: SpoolFile, content: bytes) -> None:
        """Write and wait for the disk; take back what was written in part, else the next line would join it."""
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file.descriptor, rest) :]
            os.fsync(file.descriptor)
        except OSError:
            file.sealed = True
            os.ftruncate(file.descriptor, file.size)
            raise
        file.size += len(content)


def _adopt(path: Path) -> SpoolFile | None:
    """Return the file if its owner is dead: the kernel gives up a dead process's lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        state = os.fstat(descriptor)
        if state.st_nlink:  # else it was delivered and removed between listing and locking
            lines = os.pread(descriptor, state.st_size, 0).count(b"\n")
            log.info("spool_file_adopted", file=path.name, charges=lines)
            return SpoolFile(path, descriptor, lines=lines, size=state.st_size, sealed=True)
    except OSError:
        log.debug("spool_file_has_an_owner", file=path.name)
    os.close(descriptor)
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
