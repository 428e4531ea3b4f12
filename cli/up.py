"""The supervisor: starts the stores and the roles of one appliance, keeps them running, stops them in order."""

import asyncio
import os
import time
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from cli.appliance import embedded_servers, new_internal_key, role_child, role_environment, roles_of, store_child
from cli.authority import prepare_authority
from cli.books import prepare_books
from cli.children import Child, rotate_log, stop_together, tend
from cli.display import Display
from cli.embedded import EmbeddedStoreError, Server, choose_service_user, postgres_url, prepare_home, valkey_url
from cli.home_lock import HomeInUse, HomeLock
from cli.ports import PortInUse, require_free_ports
from cli.service_user import socket_folder
from cli.stopping import SignalWatch, StopRequested
from cli.welcome import show_welcome
from config.settings import Settings, SettingsError, reachable_host
from telemetry.metrics import prepare_metrics_folder

PROBE_SECONDS_MAX = 1.0
LOOK_SECONDS_STARTING = 0.1
LOOK_SECONDS_RUNNING = 1.0
SLOW_START_SECONDS = 30.0


class StartFailed(Exception):
    """The appliance could not start; the text says why and what to do."""


class Supervisor:
    """One appliance, from its first process to its last."""

    def __init__(self, settings: Settings, display: Display, signals: SignalWatch) -> None:
        self._settings, self._display, self._signals = settings, display, signals
        self._stores: list[Child] = []
        self._groups: list[list[Child]] = []
        self._lock: HomeLock | None = None

    def start(self) -> None:
        """Start everything and return as soon as it is started, not yet ready.

        Raises:
            StartFailed, EmbeddedStoreError, PortInUse, HomeInUse, SettingsError: what was started is to be stopped.
        """
        home, user = self._settings.home, choose_service_user() if self._needs_servers() else None
        prepare_home(home, user)
        self._lock = HomeLock.take(home, socket_folder(home, user), say_waiting=self._say_waiting)
        require_free_ports(self._settings)
        servers = embedded_servers(self._settings, user, [self._lock.children_fd])
        self._start_stores(servers)
        self._settings = self._settings.with_stores(database_url=postgres_url(home), redis_url=valkey_url(home))
        with self._display.step("preparing the books"):
            asyncio.run(prepare_books(self._settings))
        prepare_authority(self._settings, self._display)
        with self._display.step("starting the roles"):
            self._start_roles(home, self._lock.children_fd)

    def _needs_servers(self) -> bool:
        return self._settings.database_url is None or self._settings.redis_url is None

    def _say_waiting(self) -> None:
        self._display.say("waiting for what is left of an earlier appliance …")

    def _start_stores(self, servers: list[Server]) -> None:
        for server in servers:
            first = "" if server.data.exists() else ", first use"
            with self._display.step(f"starting {server.name}{first}"):
                child = store_child(server)
                self._stores.append(child)
                child.run(time.monotonic())
                server.wait_until_ready()

    def _start_roles(self, home: Path, children_fd: int) -> None:
        logs, metrics = home / "logs", home / "metrics"
        logs.mkdir(mode=0o700, exist_ok=True)
        prepare_metrics_folder(metrics)
        environment = role_environment(self._settings, dict(os.environ), metrics=metrics, internal_key=new_internal_key())
        for group in roles_of(self._settings):
            self._groups.append([role_child(role, logs, environment=environment, keep_open=[children_fd]) for role in group])
        for children in reversed(self._groups):
            for child in children:
                child.run(time.monotonic())

    def run(self) -> None:
        """Keep everything running until somebody asks to stop."""
        begun, announced, warned = time.monotonic(), False, False
        while not self._signals.requests:
            now = time.monotonic()
            tend(self._everything(), now, say=self._display.warn)
            if not announced and self._answers():
                announced = True
                show_welcome(self._settings, self._display, seconds=now - begun)
            if not announced and not warned and now - begun > SLOW_START_SECONDS:
                warned = True
                self._show_what_fails()
            for child in self._everything():
                if child.log is not None:
                    rotate_log(child.log)
            self._signals.wait(LOOK_SECONDS_RUNNING if announced else LOOK_SECONDS_STARTING)

    def _everything(self) -> list[Child]:
        return [*self._stores, *(child for group in self._groups for child in group)]

    def _answers(self) -> bool:
        gateway = self._settings.gateway
        with closing(HTTPConnection(reachable_host(gateway.host), gateway.port, timeout=PROBE_SECONDS_MAX)) as connection:
            try:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == HTTPStatus.OK
            except (OSError, HTTPException):
                return False

    def _show_what_fails(self) -> None:
        self._display.warn(f"not ready after {SLOW_START_SECONDS:.0f} s")
        for child in self._everything():
            if child.failures:
                self._display.warn(f"{child.name} {child.last_ending}; its log {child.log} ends:\n{child.log_tail()}")

    def stop(self) -> None:
        """Stop what runs: the workers finish their requests, the poster posts the rest, then the stores."""
        self._signals.raises = False
        for group in (*self._groups, self._stores):
            for name in stop_together(group, is_urgent=self._signals.is_urgent):
                self._display.warn(f"{name} did not stop in time and was killed")
        if self._lock is not None:
            self._lock.release()


def run_up(settings: Settings, *, as_json: bool = False) -> int:
    """Run the appliance until it is asked to stop; return the exit code.

    Raises:
        StartFailed: it could not start; nothing is left running.
    """
    display, signals = Display(as_json=as_json), SignalWatch()
    supervisor = Supervisor(settings, display, signals)
    try:
        supervisor.start()
        signals.raises = False
        supervisor.run()
        display.say("stopping: running answers are finished and posted first (ask again to stop at once)")
    except StopRequested:
        display.say("stopping")
    except (EmbeddedStoreError, PortInUse, HomeInUse, SettingsError) as error:
        raise StartFailed(str(error)) from error
    finally:
        supervisor.stop()
    display.say("stopped")
    return 0
