"""Events on disk until the server has them, so that no end of a process loses one.

A folder holds segments: files of up to a thousand lines, one event each. A segment is what is sent at
once and is removed when the server has answered. Each process writes segments of its own, named after
an owner whose lock it holds as long as it lives; what an owner without a holder left behind is taken
over by whoever starts next. An event is in the file before `append` returns.
"""

import os
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from plutus_agent.errors import PlutusError
from plutus_agent.file_locks import try_lock

SEGMENT_EVENTS_MAX = 1000
# A batch has to fit into a request body.
SEGMENT_BYTES_MAX = 900_000
REFUSED_BYTES_MAX = 4 * 1024 * 1024
_SUFFIX = ".events"


@dataclass(slots=True)
class Segment:
    """One file of events; `since` is the moment of its first, on the monotonic clock."""

    path: Path
    count: int
    size: int
    since: float

    def read(self) -> list[str]:
        """Return its events. A last line without an end was being written when its process died: nobody was told it is safe."""
        return [line.decode("ascii", "replace") for line in self.path.read_bytes().split(b"\n")[:-1] if line]


class Spool:
    """The segments of one process, in a folder that others may share."""

    def __init__(self, folder: Path, *, events_max: int) -> None:
        """Open the folder, made if need be, for this user alone.

        Raises:
            PlutusError: the folder cannot be used.
        """
        self.folder, self.events_max = folder, events_max
        self._mutex = threading.Lock()
        self._begin()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._mutex:
                self._own()
        except OSError as error:
            raise PlutusError(f"the spool folder {folder} cannot be used: {error.strerror}") from error

    def __len__(self) -> int:
        """Return how many events wait."""
        return self._count

    @property
    def segments(self) -> int:
        """How many segments are closed and wait."""
        return len(self._full)

    def append(self, line: str) -> bool:
        """Write one event; False when the spool is full and it was not written.

        Raises:
            PlutusError: the disk refused it; the event was not written.
        """
        data = line.encode("ascii") + b"\n"
        with self._mutex:
            if self._count >= self.events_max:
                return False
            try:
                self._own()
                self._write(data)
            except OSError as error:
                raise PlutusError(f"the spool folder {self.folder} cannot be written to: {error.strerror}") from error
        return True

    def oldest_since(self) -> float | None:
        """Return since when the oldest event waits, on the monotonic clock; None when none does."""
        with self._mutex:
            if self._full:
                return 0.0  # a whole batch is ready: due at once
            return self._open.since if self._open is not None else None

    def take(self) -> Segment | None:
        """Return the oldest segment, closed for writing; None when nothing waits. It stays on disk until `remove`."""
        with self._mutex:
            if not self._full:
                self._close_open()
            return self._full[0] if self._full else None

    def remove(self, segment: Segment) -> None:
        """Forget a segment that the server has answered."""
        with self._mutex:
            if segment in self._full:
                self._full.remove(segment)
                self._count -= segment.count
        segment.path.unlink(missing_ok=True)

    def refuse(self, line: str) -> None:
        """Keep an event that the server will never take, for somebody to look at; the file is bounded."""
        path = self.folder / "refused.jsonl"
        try:
            if not path.exists() or path.stat().st_size < REFUSED_BYTES_MAX:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                os.write(handle, line.encode("ascii") + b"\n")
                os.close(handle)
        except OSError:
            return

    def adopt(self) -> int:
        """Take over the events of owners that have died; return how many."""
        with self._mutex:
            before = self._count
            try:
                self._own()
                for lock in sorted(self.folder.glob("*.lock")):
                    if lock.stem != self._owner and (handle := try_lock(lock, create=False)) is not None:
                        self._take_over(lock.stem)
                        lock.unlink(missing_ok=True)
                        os.close(handle)
                living = {lock.stem for lock in self.folder.glob("*.lock")}
                for owner in {path.name.split(".")[0] for path in self.folder.glob(f"*{_SUFFIX}")} - living:
                    self._take_over(owner)
            except OSError:
                pass  # what could not be taken over stays where it is, for the next start
            return self._count - before

    def close(self) -> None:
        """Let go of the folder. What still waits lies there for the next start."""
        with self._mutex:
            self._close_open()
            if self._lock is not None:
                if not self._full:
                    (self.folder / f"{self._owner}.lock").unlink(missing_ok=True)
                os.close(self._lock)
            self._begin()

    def forget(self) -> None:
        """Begin anew in the child of a fork: the segments, and the duty to send them, are the parent's."""
        handles = (self._lock, self._handle)
        self._mutex = threading.Lock()
        self._begin()
        for handle in handles:
            if handle is not None:
                os.close(handle)

    def _begin(self) -> None:
        self._owner, self._number, self._count = "", 0, 0
        self._full: deque[Segment] = deque()
        self._open: Segment | None = None
        self._handle: int | None = None
        self._lock: int | None = None

    def _own(self) -> None:
        while self._lock is None:
            self._owner = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
            self._lock = try_lock(self.folder / f"{self._owner}.lock", create=True)

    def _next_path(self) -> Path:
        self._number += 1
        return self.folder / f"{self._owner}.{self._number:09d}{_SUFFIX}"

    def _write(self, data: bytes) -> None:
        if self._open is not None and self._open.size + len(data) > SEGMENT_BYTES_MAX:
            self._close_open()
        if self._open is None or self._handle is None:
            path = self._next_path()
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            self._open = Segment(path, 0, 0, time.monotonic())
        written = os.write(self._handle, data)
        if written < len(data):
            os.ftruncate(self._handle, self._open.size)
            raise OSError(28, "no space left on the disk")
        self._open.count, self._open.size, self._count = self._open.count + 1, self._open.size + written, self._count + 1
        if self._open.count >= SEGMENT_EVENTS_MAX:
            self._close_open()

    def _close_open(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
        if self._open is not None and self._open.count:
            self._full.append(self._open)
        elif self._open is not None:
            self._open.path.unlink(missing_ok=True)
        self._open = self._handle = None

    def _take_over(self, owner: str) -> None:
        for path in sorted(self.folder.glob(f"{owner}.*{_SUFFIX}")):
            ours = self._next_path()
            try:
                path.rename(ours)
            except FileNotFoundError:
                continue  # another one that starts now was faster
            segment = Segment(ours, 0, ours.stat().st_size, 0.0)
            segment.count = len(segment.read())
            if segment.count:
                self._full.append(segment)
                self._count += segment.count
            else:
                ours.unlink(missing_ok=True)
