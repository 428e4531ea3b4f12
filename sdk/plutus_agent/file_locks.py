"""Locks that end with the process that holds them, so that what a dead one left can be told from what is in use."""

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_lock(path: Path, *, create: bool) -> int | None:
    """Lock the file and return its handle, which is to be closed; None where another holds it or it is gone.

    Raises:
        OSError: the file cannot be made.
    """
    try:
        handle = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
    except (FileNotFoundError, PermissionError):
        if create:
            raise
        return None
    try:
        _lock(handle)
        # Whoever held it before may have removed the file: then we hold the lock of nothing.
        if os.fstat(handle).st_ino == path.stat().st_ino:
            return handle
    except OSError:
        pass
    os.close(handle)
    return None
