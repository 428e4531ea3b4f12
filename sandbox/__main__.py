"""Runs the simulated providers on their own: `python -m sandbox`."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from config.settings import load_settings
from sandbox.server import run_sandbox
from telemetry.lean_end import leave


async def serve(host: str, port: int, recordings: Path | None) -> None:
    """Serve until SIGTERM or SIGINT; one JSON line on stdout says when it is ready."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with run_sandbox(port, host=host, recordings=recordings) as sandbox:
        sys.stdout.write(json.dumps({"event": "sandbox_ready", "url": sandbox.url}) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the flags; what they leave out comes from the settings."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="Simulated providers over real HTTP.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--recordings", type=Path, help="folder of recorded transcripts to replay")
    flags = parser.parse_args(arguments)
    settings = load_settings({"sandbox.provider_port": flags.port, "sandbox.recordings": flags.recordings}).sandbox
    uvloop.run(serve(flags.host, settings.provider_port, settings.recordings))


if __name__ == "__main__":
    leave(main)
