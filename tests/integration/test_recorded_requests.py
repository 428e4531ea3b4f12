"""Recorded requests of real clients: each can be read, and its bound covers the input that the provider counted."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from metering.classify import RequestRefused, Route, classify
from metering.holds import TOOL_USES_MAX
from metering.requests import read_request

ROOT = Path(__file__).resolve().parents[2]
TRANSCRIPTS = Path(os.environ.get("LEVEL5_TRANSCRIPTS") or ROOT.parent / "shared" / "transcripts")
SERVER_TOOL_TOKENS = 50_000


def _load(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _route(folder: Path) -> Route | None:
    meta = _load(folder / "meta.json")
    try:
        found = classify(meta["method"], meta["path"])
    except RequestRefused:
        return None
    return found if isinstance(found, Route) and found.billable else None


def _is_whole(folder: Path) -> bool:
    """Tell whether the body of a billable request was recorded, and not shortened by the recorder."""
    body = _load(folder / "request.json")
    whole = isinstance(body, dict) and isinstance(body.get("model"), str) and isinstance(body.get("messages", []), list)
    return whole and "<elided" not in json.dumps(body) and _route(folder) is not None


FOLDERS = [found.parent for found in sorted(TRANSCRIPTS.glob("*/*/request.json")) if _is_whole(found.parent)]
pytestmark = pytest.mark.skipif(not FOLDERS, reason=f"no recorded transcripts at {TRANSCRIPTS}; LEVEL5_TRANSCRIPTS names another place")


def _counted_input(expected: dict[str, Any], model: str) -> int:
    """Return what the provider counted for the model that was asked; others are bounded by rates of their own."""
    lines = expected.get("lines") or []
    counts = ("input_tokens", "cache_write_5m", "cache_write_1h", "cache_read")
    return sum(line.get(name) or 0 for line in lines[:1] if line.get("model") or model for name in counts)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_the_bound_of_a_recorded_request_covers_the_input_that_was_counted(folder: Path) -> None:
    route = _route(folder)
    assert route is not None
    body = json.dumps(_load(folder / "request.json"), separators=(",", ":")).encode()

    request = read_request(route, body)

    bound = request.input
    tools = sum(tool.max_uses or TOOL_USES_MAX for tool in request.server_tools) * SERVER_TOOL_TOKENS
    most = (bound.text_bytes + bound.media_tokens + bound.audio_tokens) * request.passes + tools
    assert bound.remote or _counted_input(_load(folder / "expected.json"), request.model) <= most
