"""Whether the ports of the appliance are free, asked before anything is started."""

import errno
import socket

from config.settings import Settings


class PortInUse(Exception):
    """Something else listens on a port; the text names the port and its setting."""


def ports_of(settings: Settings) -> list[tuple[str, str, int]]:
    """Return (setting, host, port) of everything the appliance listens on."""
    found = [
        ("gateway.port", settings.gateway.host, settings.gateway.port),
        ("control.port", settings.control.host, settings.control.port),
        ("metrics.port", settings.metrics.host, settings.metrics.port),
    ]
    if settings.forward.enabled:
        found.insert(1, ("forward.port", settings.forward.host, settings.forward.port))
    if settings.mode == "sandbox":
        simulated = {
            "provider_port": settings.sandbox.provider_port,
            "chain_port": settings.sandbox.chain_port,
            "chain_ws_port": settings.sandbox.chain_ws_port,
        }
        found += [(f"sandbox.{name}", "127.0.0.1", port) for name, port in simulated.items()]
    return found


def require_free_ports(settings: Settings) -> None:
    """Refuse to start where a port is taken or not to be had.

    Raises:
        PortInUse: naming the port and the setting that changes it.
    """
    taken: dict[int, str] = {}
    for setting, host, port in ports_of(settings):
        advice = f"set LEVEL5_{setting.upper().replace('.', '__')} to another" + (" (or --port)" if setting == "gateway.port" else "")
        if port in taken:
            raise PortInUse(f"{setting} and {taken[port]} are both {port}: {advice}")
        taken[port] = setting
        fault = _listen_fault(host, port)
        if fault is None:
            continue
        if fault.errno == errno.EADDRINUSE:
            raise PortInUse(f"port {port} ({setting}) is in use on {host}: stop what listens there, or {advice}")
        raise PortInUse(f"cannot listen on {host} port {port} ({setting}): {fault.strerror or fault}")


def _listen_fault(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier appliance may linger
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error
    return None
