"""What an appliance consists of: its stores and its roles, as children of the supervisor."""

import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.children import Child
from cli.embedded import EmbeddedPostgres, EmbeddedValkey, Server, ServiceUser
from cli.spawning import spawn
from config.settings import Settings, settings_environment, without_settings

INTERNAL_KEY = "LEVEL5_INTERNAL_KEY"
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# A heap of its own for each thread keeps what large bodies needed once: a worker gives back a tenth of its memory after them. Ours run one thread at a time.
ONE_HEAP = {"MALLOC_ARENA_MAX": "1"}
STOP_GRACE_SECONDS = 15.0
POSTER_STOP_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Role:
    """One process of the appliance: what it is called and the module that is run."""

    name: str
    module: tuple[str, ...]
    stop_seconds_max: float = 30.0


CHAINWATCH = Role("chainwatch", ("chainwatch",))


def gateway_roles(settings: Settings) -> list[Role]:
    """Return the workers, all on one port."""
    stop_seconds = settings.gateway.drain_seconds_max + STOP_GRACE_SECONDS
    return [Role(f"gateway-{number}", ("addons.worker",), stop_seconds) for number in range(1, settings.gateway.workers + 1)]


def roles_of(settings: Settings) -> list[list[Role]]:
    """Return the roles in the order in which they stop: who still has requests first, who writes the books last."""
    simulated = [Role("providers", ("sandbox",)), Role("chain", ("sandbox.chain",))] if settings.mode == "sandbox" else []
    watching = [CHAINWATCH] if settings.chain.is_on else []
    beside = [*watching, *simulated, Role("control", ("control",))]
    return [gateway_roles(settings), beside, [Role("poster", ("cli.poster",), POSTER_STOP_SECONDS_MAX)]]


def role_environment(settings: Settings, inherited: dict[str, str], *, metrics: Path | None, internal_key: str) -> dict[str, str]:
    """Return the environment of a role: these settings and no others, and what only the supervisor knows."""
    environment = ONE_HEAP | without_settings(inherited) | settings_environment(settings) | {INTERNAL_KEY: internal_key, "PYTHONUNBUFFERED": "1"}
    return environment | ({METRICS_FOLDER: str(metrics)} if metrics else {})


def new_internal_key() -> str:
    """Return a secret by which the gateway proves to the control API that it is the gateway."""
    return secrets.token_hex(32)


def role_command(role: Role) -> list[str]:
    """Return the command of a role: without assertions, and without importing from the current folder."""
    return [sys.executable, "-P", "-O", "-m", *role.module]


def role_child(role: Role, logs: Path | None, *, environment: dict[str, str], keep_open: Sequence[int] = ()) -> Child:
    """Return the child that runs `role`; its log is in the folder `logs`, or where we write."""
    log = logs / f"{role.name}.log" if logs else None

    def start() -> subprocess.Popen[bytes]:
        return spawn(role_command(role), log, death_signal=signal.SIGTERM, environment=environment, pass_fds=keep_open)

    return Child(role.name, start, log, stop_seconds_max=role.stop_seconds_max)


def embedded_servers(settings: Settings, user: ServiceUser | None, keep_open: Sequence[int]) -> list[Server]:
    """Return the stores that the settings leave to us."""
    servers: list[Server] = []
    if settings.redis_url is None:
        servers.append(EmbeddedValkey(settings.home, user=user, keep_open=keep_open))
    if settings.database_url is None:
        servers.append(EmbeddedPostgres(settings.home, user=user, keep_open=keep_open))
    return servers


def store_child(server: Server) -> Child:
    """Return the child that runs an embedded store."""

    def start() -> subprocess.Popen[bytes]:
        server.start()
        if server.process is None:
            raise ChildProcessError(f"{server.name} was not started")
        return server.process

    return Child(server.name, start, server.log, stop_signal=server.stop_signal, stop_seconds_max=60.0)
