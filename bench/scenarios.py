"""What is measured: the kinds of load, and the systems that each kind is put on, block by block.

The systems of one block run side by side and take every scenario in turn, so that only figures of one block are compared.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

PACE_MS: Final = 10
PASSAGE: Final = "Please say in three short sentences how a prepaid balance is held, settled and kept in the books. "
LARGE_BYTES: Final = 1_000_000


class Body(StrEnum):
    """The requests that are sent; three ask for a stream."""

    JSON = "json"
    LARGE = "large"
    STREAM = "stream"
    PACED = "paced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of load. `without` says of a system why it is not asked."""

    name: str
    says: str
    body: Body = Body.JSON
    concurrency: int
    new_connections: bool = False
    spread_ms: int = 0  # over which the first requests begin
    seconds_factor: float = 1.0
    without: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Systems that are measured side by side."""

    name: str
    says: str
    systems: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    tls: bool = False  # between the system and the provider
    workers: int = 1


TOO_SLOW = (("litellm", "512 requests at once take it longer than a minute"),)
EVENTS = "60 events"

BLOCKS: Final = (
    Block(
        name="plain",
        says="one worker process each, provider without TLS",
        systems=("nginx", "mitmdump", "portkey", "litellm", "level5-stock", "level5"),
        scenarios=(
            Scenario(name="json-1", says="JSON, 1 connection", concurrency=1),
            Scenario(name="json-32", says="JSON, 32 connections", concurrency=32),
            Scenario(name="json-512", says="JSON, 512 connections", concurrency=512, without=TOO_SLOW),
            Scenario(name="json-32-new", says="JSON, each on a new connection, 32 at a time", concurrency=32, new_connections=True),
            Scenario(name="large-8", says="JSON, requests of 1 MB, 8 connections", body=Body.LARGE, concurrency=8),
            Scenario(name="stream-1", says=f"{EVENTS} as fast as they come, 1 connection", body=Body.STREAM, concurrency=1),
            Scenario(name="stream-32", says=f"{EVENTS} as fast as they come, 32 connections", body=Body.STREAM, concurrency=32),
            Scenario(name="paced-32", says=f"{EVENTS} {PACE_MS} ms apart, 32 streams begun at once", body=Body.PACED, concurrency=32),
            Scenario(name="paced-32-spread", says=f"{EVENTS} {PACE_MS} ms apart, 32 streams begun one by one", body=Body.PACED, concurrency=32, spread_ms=600),
        ),
    ),
    Block(
        name="tls",
        says="one worker process each, provider with TLS",
        systems=("nginx", "mitmdump", "portkey", "litellm", "level5"),
        tls=True,
        scenarios=(
            Scenario(name="tls-json-32", says="JSON, 32 connections", concurrency=32),
            Scenario(name="tls-json-32-new", says="JSON, each on a new connection, 32 at a time", concurrency=32, new_connections=True),
            Scenario(name="tls-paced-32", says=f"{EVENTS} {PACE_MS} ms apart, 32 streams begun at once", body=Body.PACED, concurrency=32),
        ),
    ),
    Block(
        name="two-workers",
        says="two worker processes each on all cores, provider without TLS",
        systems=("nginx", "level5"),
        workers=2,
        scenarios=(
            Scenario(name="two-json-32", says="JSON, 32 connections", concurrency=32),
            Scenario(name="two-json-512", says="JSON, 512 connections", concurrency=512),
            Scenario(name="two-json-32-new", says="JSON, each on a new connection, 32 at a time", concurrency=32, new_connections=True),
            Scenario(name="two-paced-32", says=f"{EVENTS} {PACE_MS} ms apart, 32 streams begun at once", body=Body.PACED, concurrency=32),
        ),
    ),
)


def request_body(kind: Body) -> bytes:
    """Return a request of about 2 KB, or of 1 MB."""
    turns = [{"role": role, "content": PASSAGE * 3} for role in ("user", "assistant", "user", "assistant", "user")]
    said = {Body.LARGE: PASSAGE * (LARGE_BYTES // len(PASSAGE)), Body.PACED: f"bench-pace: {PACE_MS}. {PASSAGE}"}.get(kind, PASSAGE * 2)
    stream = kind in {Body.STREAM, Body.PACED}
    request = {"model": "claude-sonnet-4-6", "max_tokens": 1024, "stream": stream, "system": said, "messages": turns}
    return json.dumps(request, separators=(",", ":")).encode()


def write_bodies(folder: Path) -> dict[Body, Path]:
    """Write each kind of request into a file for the load generator."""
    files = {kind: folder / f"body-{kind}.json" for kind in Body}
    for kind, path in files.items():
        path.write_bytes(request_body(kind))
    return files
