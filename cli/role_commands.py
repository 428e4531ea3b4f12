"""`level5 gateway`, `level5 control`, `level5 poster`, `level5 chainwatch`: one role alone, for systemd, containers and Kubernetes."""

import os
from typing import Annotated

import typer
import uvloop

from cli.appliance import CHAINWATCH, INTERNAL_KEY, METRICS_FOLDER, Role, role_command
from cli.gateway import run_gateway
from cli.options import ConfigFile, Home, flags_of
from cli.roles import run_poster_role
from config.settings import Settings, load_settings, settings_environment, without_settings

OnSandbox = Annotated[bool, typer.Option("--sandbox", help="Sandbox mode.")]


def _settings(home: Home, config: ConfigFile, *, sandbox: bool, **flags: object) -> Settings:
    return load_settings(flags_of(home=home, sandbox=True if sandbox else None, **flags), config)


def gateway(
    port: Annotated[int | None, typer.Option("--port", help="Port of the gateway.", show_default=False)] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Worker processes.", show_default=False)] = None,
    home: Home = None,
    config: ConfigFile = None,
    sandbox: OnSandbox = False,
) -> None:
    """Run the gateway alone: its workers on one port, replaced when they die. Needs the addresses of both stores."""
    raise typer.Exit(run_gateway(_settings(home, config, sandbox=sandbox, gateway__port=port, gateway__workers=workers)))


def control(home: Home = None, config: ConfigFile = None, sandbox: OnSandbox = False) -> None:
    """Run the control API alone. Needs the addresses of both stores."""
    settings = _settings(home, config, sandbox=sandbox)
    command = role_command(Role("control", ("control",)))
    os.execve(command[0], command, own_environment(settings))  # noqa: S606  # no shell is what we want


def poster(home: Home = None, config: ConfigFile = None, sandbox: OnSandbox = False) -> None:
    """Run the poster alone: it writes the journal, ends abandoned holds and checks the books. Any number may run."""
    uvloop.run(run_poster_role(_settings(home, config, sandbox=sandbox)))


def chainwatch(home: Home = None, config: ConfigFile = None, sandbox: OnSandbox = False) -> None:
    """Run the watcher of deposits alone. Needs a treasury, an RPC provider and the addresses of both stores. Any number may run."""
    settings = _settings(home, config, sandbox=sandbox)
    command = role_command(CHAINWATCH)
    os.execve(command[0], command, own_environment(settings))  # noqa: S606  # no shell is what we want


def own_environment(settings: Settings) -> dict[str, str]:
    """Return our environment with exactly these settings; what the operator gave for all roles goes along."""
    given = {name: os.environ[name] for name in (INTERNAL_KEY, METRICS_FOLDER) if name in os.environ}
    return without_settings(os.environ) | settings_environment(settings) | given
