"""What `level5 up` says when the appliance is ready: where everything is, what is off, and what to try."""

import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cli.display import Display
from config.settings import ProvidersSettings, Settings, reachable_host

DISTRIBUTION = "level5-gateway"
MEANINGS = {
    "gateway": "the address for agents, and for people who open it in a browser",
    "forward": "HTTPS_PROXY of agents; their certificate is at /ca.pem",
    "control": "the API, direct",
    "metrics": "for Prometheus",
    "providers": "simulated, nothing leaves this machine",
    "chain": "JSON-RPC of the simulated Solana cluster",
}
EXAMPLE_BODY = '{"model":"claude-sonnet-4-6","max_tokens":64,"messages":[{"role":"user","content":"Hello"}]}'


def own_version() -> str:
    """Return the version of what is installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"


def missing_keys(settings: Settings) -> list[str]:
    """Return the providers that are off because the operator gave no key."""
    return [name for name in ProvidersSettings.model_fields if not getattr(settings.providers, name).keys]


def own_command() -> str:
    """Return how to call this program in a second terminal."""
    found = shutil.which("level5")
    if found:
        return "level5"
    path = Path(sys.argv[0])
    beside = (path if path.name == "level5" else Path(sys.executable).with_name("level5")).absolute()
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


def addresses(settings: Settings) -> dict[str, str]:
    """Return where the appliance answers, by what answers there."""
    metrics, control = settings.metrics, settings.control
    found = {
        "gateway": settings.origin,
        **({"forward": f"http://{reachable_host(settings.forward.host)}:{settings.forward.port}"} if settings.forward.enabled else {}),
        "control": f"http://{reachable_host(control.host)}:{control.port}",
        "metrics": f"http://{reachable_host(metrics.host)}:{metrics.port}/metrics",
    }
    if settings.mode == "sandbox":
        found["providers"] = f"http://127.0.0.1:{settings.sandbox.provider_port}"
        found["chain"] = f"http://127.0.0.1:{settings.sandbox.chain_port}"
    return found


def try_it(settings: Settings, command: str) -> list[str]:
    """Return commands that register, fund and send one request, ready to be pasted."""
    origin = settings.origin
    return [
        f"TOKEN=$(curl -s -X POST {origin}/v1/register | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"api_token\"])')",
        f'{command} credit "$TOKEN" 5 --reason "first trial"',
        f"curl -i {origin}/proxy/$TOKEN/v1/messages -H 'content-type: application/json' -d '{EXAMPLE_BODY}'",
        f"curl {origin}/proxy/$TOKEN/balance",
    ]


def show_welcome(settings: Settings, display: Display, *, seconds: float) -> None:
    """Write where everything is and what to do next."""
    if display.event("ready", version=own_version(), mode=settings.mode, home=str(settings.home), seconds=round(seconds, 1), **addresses(settings)):
        return
    display.say("")
    display.say(f"Level5 {own_version()} is ready ({settings.mode} mode, {seconds:.1f} s)", style="bold")
    rows = [(name, address, MEANINGS[name]) for name, address in addresses(settings).items()]
    display.table([*rows, ("state", str(settings.home), "stores, spool and logs")])
    if settings.mode == "real":
        for name in missing_keys(settings):
            display.warn(f"{name} is off: no key (LEVEL5_PROVIDERS__{name.upper()}__API_KEY or {name.upper()}_API_KEY)")
        if not settings.chain.is_on:
            display.say("  deposits are off: accounts are credited by hand with `level5 credit`")
    display.say("")
    display.say("In a second terminal:")
    for line in try_it(settings, own_command()):
        display.say(f"  {line}")
    display.say(f"  {own_command()} admin login    # a link into the operator's console")
    display.say("")
    display.say("Ctrl-C stops everything.")
