"""Writing a client's own files: with a backup, in one step, and never for everybody to read."""

import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.client_merging import CannotMerge, merge_text
from cli.options import CommandFailed
from config.clients.recipes import ClientFile

CONFIG_FOLDER = "~/.config"
OWN_MODE = 0o600  # the file holds an api_token
CERTIFICATE_MARK = b"-----BEGIN CERTIFICATE-----"
CERTIFICATE_BYTES_MAX = 64 * 1024
FETCH_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """What became of one file. `backup` is None where there was nothing to save."""

    path: Path
    changed: bool
    backup: Path | None = None


def place_of(file: ClientFile, environment: Mapping[str, str]) -> Path:
    """Return where a client looks for its file on this machine."""
    moved = environment.get(file.variable) if file.variable else None
    if moved:
        return Path(moved).expanduser() / file.path
    folder = (file.mac_folder or file.folder) if sys.platform == "darwin" else file.folder
    config = environment.get("XDG_CONFIG_HOME")
    if config and (folder + "/").startswith(CONFIG_FOLDER + "/"):
        return Path(config + folder.removeprefix(CONFIG_FOLDER)) / file.path
    return Path(folder).expanduser() / file.path


def write_client_file(file: ClientFile, environment: Mapping[str, str]) -> WrittenFile:
    """Put our values into a client's file; what it said before is kept beside it.

    Raises:
        CommandFailed: it cannot be read, changed or written, and is what it was.
    """
    path = place_of(file, environment).resolve()  # a link to a file kept elsewhere stays a link
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = merge_text(old, file)
        return _replace(path, old, new)
    except CannotMerge as error:
        raise CommandFailed(f"{path} was left as it is: {error}. Put in by hand what this command prints without --write") from error
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{path} was left as it is: it is not UTF-8") from error
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}") from error


def _replace(path: Path, old: str, new: str) -> WrittenFile:
    if new == old:
        return WrittenFile(path=path, changed=False)
    mode = path.stat().st_mode & 0o777 if path.exists() else OWN_MODE
    path.parent.mkdir(parents=True, exist_ok=True)
    backup = None
    if old:
        backup = _free_name(path)
        _write_whole(backup, old, mode=mode)
    _write_whole(path, new, mode=mode)
    return WrittenFile(path=path, changed=True, backup=backup)


def _free_name(path: Path) -> Path:
    """Return the name of a backup that does not exist yet."""
    stem = f"{path.name}.backup-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (path.with_name(stem if count == 0 else f"{stem}-{count}") for count in range(1000))
    return next(name for name in names if not name.exists())


def _write_whole(path: Path, text: str, *, mode: int) -> None:
    """Write a file in one step: whoever reads it finds the old one or the new one, whole."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWN_MODE), "w", encoding="utf-8") as output:
            output.write(text)
        unfinished.chmod(mode)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def is_read_by_others(path: Path) -> bool:
    """Tell whether somebody else on this machine may read a file."""
    return bool(path.stat().st_mode & 0o077)


def fetch_certificate(origin: str, path: Path) -> WrittenFile:
    """Put the forward door's certificate where the clients are told to find it.

    Raises:
        CommandFailed: the gateway does not give it, or it cannot be written.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the gateway itself, whatever proxy the environment names
    try:
        with opener.open(f"{origin}/ca.pem", timeout=FETCH_SECONDS_MAX) as answer:
            body: bytes = answer.read(CERTIFICATE_BYTES_MAX)
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise CommandFailed(f"{origin}/ca.pem cannot be fetched: {error}; is the gateway running, with its forward door on?") from error
    if not body.lstrip().startswith(CERTIFICATE_MARK):
        raise CommandFailed(f"{origin}/ca.pem is no certificate")
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        return _replace(path, old, body.decode("ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} cannot be written: {error}") from error
