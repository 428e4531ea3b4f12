"""Who the embedded servers run as, and which folders that user can reach.

Postgres refuses root, so as root the servers run as an existing unprivileged user. Folders are
never made more open than they are: one that the user cannot enter is refused with a clear text.
"""

import hashlib
import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOCKET_PATH_BYTES_MAX = 90  # the kernel allows 107; Postgres adds its own file name
SERVICE_USERS = ("postgres", "nobody")


class EmbeddedStoreError(Exception):
    """An embedded server could not be prepared or started; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """The user the servers run as; None where they run as the caller."""

    uid: int
    gid: int


def choose_service_user() -> ServiceUser | None:
    """Return an existing unprivileged user when running as root, else None."""
    if os.geteuid() != 0:
        return None
    for name in SERVICE_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return ServiceUser(entry.pw_uid, entry.pw_gid)
    raise EmbeddedStoreError(
        "Postgres refuses to run as root and neither user 'postgres' nor 'nobody' exists; "
        "run Level5 as an ordinary user or set LEVEL5_DATABASE_URL and LEVEL5_REDIS_URL"
    )


def own_folder(path: Path, user: ServiceUser | None, *, mode: int = 0o700) -> Path:
    """Create `path` with `mode` and give it to the service user; parents are left as they are."""
    path.mkdir(mode=mode, exist_ok=True)
    path.chmod(mode)
    if user is not None:
        os.chown(path, user.uid, user.gid)
    return path


def require_reachable(home: Path, user: ServiceUser | None) -> None:
    """Refuse a home below a folder that the service user cannot enter.

    Raises:
        EmbeddedStoreError: naming the first closed folder.
    """
    if user is None:
        return
    for folder in (*reversed(home.resolve().parents), home.resolve()):
        state = folder.stat()
        bit = stat.S_IXUSR if state.st_uid == user.uid else stat.S_IXGRP if state.st_gid == user.gid else stat.S_IXOTH
        if not state.st_mode & bit:
            raise EmbeddedStoreError(
                f"the database server runs as uid {user.uid} and cannot enter {folder}; set LEVEL5_HOME to a folder that it can reach, such as /var/lib/level5"
            )


def is_reachable(path: Path, user: ServiceUser | None) -> bool:
    """Tell whether the service user can enter every folder down to `path`."""
    try:
        require_reachable(path, user)
    except EmbeddedStoreError:
        return False
    return True


def socket_path(home: Path) -> Path:
    """Return where the unix sockets of `home` are: below it, or in a short folder where that path is too long."""
    folder = home / "run"
    if len(os.fsencode(folder)) <= SOCKET_PATH_BYTES_MAX - len(".s.PGSQL.5432"):
        return folder
    digest = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"level5-{digest}"


def socket_folder(home: Path, user: ServiceUser | None) -> Path:
    """Create the folder of the unix sockets, closed to everybody but the servers' user.

    Raises:
        EmbeddedStoreError: somebody else made a folder of that name first.
    """
    folder = socket_path(home)
    if folder.is_symlink() or (folder.exists() and folder.stat().st_uid not in {os.geteuid(), user.uid if user else os.geteuid()}):
        raise EmbeddedStoreError(f"{folder} belongs to somebody else; remove it, or set LEVEL5_HOME to a shorter path")
    return own_folder(folder, user)


def prepare_home(home: Path, user: ServiceUser | None) -> None:
    """Create the home folder and those above it that are missing (0711 as root, so that the servers' user can enter; else 0700).

    Raises:
        EmbeddedStoreError: it cannot be created, or the service user cannot reach it.
    """
    try:
        for folder in (*reversed(home.parents), home):
            if not folder.exists():
                folder.mkdir()
                folder.chmod(0o700 if os.geteuid() else 0o711)
    except OSError as error:
        raise EmbeddedStoreError(f"cannot create {home}: {error.strerror}; set LEVEL5_HOME to a folder of yours") from error
    if not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        raise EmbeddedStoreError(f"{home} is not a folder that this user can write to; set LEVEL5_HOME to another")
    require_reachable(home, user)
