"""A user's home for each client: what `level5 connect --write` puts there, and the client started from it."""

import os
import shlex
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from config.clients.connection import Door
from tests.clients.conftest import House, client_environment
from tests.fakes.commands import run_command

RUN_SECONDS_MAX = 110.0


@dataclass(frozen=True)
class Finished:
    """How a client ended, and everything it showed."""

    code: int
    shown: str


@dataclass
class UserHome:
    """One user's home folder, in which one client was connected."""

    folder: Path
    exports: Path | None = None

    def connect(self, house: House, client: str, *, door: Door, model: str, empty: bool = False) -> "UserHome":
        """Run `level5 connect … --write` as this user."""
        token = (house.empty if empty else house.funded).api_token
        ports = {name: value for name, value in house.appliance.environment.items() if name.endswith("__PORT")}
        arguments = ("connect", client, token, "--door", door.value, "--model", model, "--write")
        done = run_command(*arguments, environment=client_environment(self.folder) | ports)
        assert done.returncode == 0, done.stdout + done.stderr
        exports = self.folder / ".config" / "level5" / f"{client}.sh"
        self.exports = exports if exports.exists() else None
        return self

    def run(self, *command: str, **environment: str) -> Finished:
        """Start the client in an empty folder, in a shell that has read the exports; it has no terminal and nothing to read."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        line = shlex.join(["exec", *command])
        script = line if self.exports is None else f". {shlex.quote(str(self.exports))}; {line}"
        process = subprocess.Popen(
            ["sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=client_environment(self.folder) | environment,
            cwd=work,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        try:
            shown, _ = process.communicate(timeout=RUN_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            shown, _ = process.communicate()
            raise AssertionError(f"{command[0]} did not end in {RUN_SECONDS_MAX:.0f} s; it showed:\n{shown[-3000:]}") from None
        return Finished(process.returncode, shown)
