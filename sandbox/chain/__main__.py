"""Runs the simulated Solana cluster: `python -m sandbox.chain`."""

import telemetry.lean_start  # noqa: F401  # before anything else is imported

# isort: split

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Final

import uvloop

from config.settings import Settings, SettingsError, load_settings
from sandbox.chain.clock import Pace
from sandbox.chain.serving import run_chain
from sandbox.chain.store import DamagedLog
from telemetry.lean_end import leave
from telemetry.logs import configure_logs, get_log

ROLE: Final = "chain"
FOLDER: Final = "chain"
FAILED: Final = 1
BAD_SETTINGS: Final = 2
# Shorter than on a real cluster, where it is 32: whoever tries Level5 out sees a deposit credited after some three seconds.
FINALIZED_SLOTS: Final = 8


async def serve(settings: Settings, pace: Pace) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        DamagedLog: the log of an earlier run cannot be read.
        OSError: a port is taken.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ports = settings.sandbox
    async with run_chain(settings.home / FOLDER, port=ports.chain_port, ws_port=ports.chain_ws_port, pace=pace) as chain:
        get_log().info("chain_ready", url=chain.rpc_url(), ws_url=chain.ws_url(), genesis=chain.cluster.genesis, slot=chain.cluster.clock.slot)
        await stop.wait()
    get_log().info("chain_stopped")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the role; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.chain", description="A simulated Solana cluster on the real SVM.")
    parser.add_argument("--port", type=int, help="JSON-RPC")
    parser.add_argument("--ws-port", type=int, help="WebSocket")
    parser.add_argument("--slot-milliseconds", type=int, default=400)
    parser.add_argument("--finalized-slots", type=int, default=FINALIZED_SLOTS, help="slots until a block is final")
    flags = parser.parse_args(arguments)
    try:
        settings = load_settings({"sandbox.chain_port": flags.port, "sandbox.chain_ws_port": flags.ws_port})
        configure_logs(settings.log_level, ROLE)
        uvloop.run(serve(settings, Pace(slot_milliseconds=flags.slot_milliseconds, finalized_slots=flags.finalized_slots)))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_SETTINGS
    except (DamagedLog, OSError) as error:
        get_log().error("chain_failed", reason=str(error))
        return FAILED
    return 0


if __name__ == "__main__":
    leave(main)
