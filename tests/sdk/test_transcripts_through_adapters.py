"""Recorded answers of the real providers, read by the adapters, give the usage that was worked out by hand."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from plutus_agent import PlutusUsageError
from plutus_agent.usage_figures import Figures, read_anthropic, read_openai

ROOT = Path(__file__).resolve().parents[2]
TRANSCRIPTS = Path(os.environ.get("LEVEL5_TRANSCRIPTS") or ROOT.parent / "shared" / "transcripts")
OWN = ROOT / "tests" / "recordings"
FOLDERS = [found.parent for place in (TRANSCRIPTS, OWN) for found in sorted(place.glob("*/*/expected.json"))]
READ = {"messages", "chat_completions", "responses", "compact", "embeddings"}


def read_body(folder: Path, name: str) -> Any:
    """Return the answer as a program has it: an object, or the list of a stream's events."""
    data = (folder / name).read_bytes()
    if not name.endswith(".sse"):
        return json.loads(data)
    events = []
    for line in data.replace(b"\r\n", b"\n").split(b"\n"):
        if line.startswith(b"data:") and line[5:].strip() not in (b"", b"[DONE]"):
            try:
                events.append(json.loads(line[5:]))
            except ValueError:
                continue  # the recording ends within it
    return events


def test_the_recorded_answers_are_there_or_their_absence_is_told() -> None:
    if not TRANSCRIPTS.is_dir():
        pytest.skip(f"no recorded answers in {TRANSCRIPTS}: only those of the project's own making are read")
    assert len(FOLDERS) > 50


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_an_adapter_reads_a_recorded_answer_as_it_is_to_be_billed(folder: Path) -> None:
    meta, expected = json.loads((folder / "meta.json").read_text()), json.loads((folder / "expected.json").read_text())
    if meta["endpoint"] not in READ:
        pytest.skip(f"{meta['endpoint']} is no answer of a model")
    body = read_body(folder, meta["response_file"])
    read = read_anthropic if meta["endpoint"] == "messages" else read_openai

    if not expected["usage_found"] or not expected.get("final") or not expected.get("billable", True):
        try:
            found = read(body)
        except PlutusUsageError:
            return
        if found is None:
            return
        pytest.skip(f"has figures that are not billed or not closing ones: {found}")
    answer = read(body)

    lines = answer if isinstance(answer, tuple) else (answer,)
    assert sorted(map(billed, lines)) == sorted(wanted(line) for line in expected["lines"])


def billed(figures: Figures | None) -> tuple[int, ...]:
    assert figures is not None
    written, long = figures.cache_write_tokens, figures.cache_write_1h_tokens
    return (figures.input_tokens, figures.output_tokens + figures.reasoning_tokens, written - long, long, figures.cache_read_tokens)


def wanted(line: dict[str, Any]) -> tuple[int, ...]:
    return (line["input_tokens"], line["output_tokens"], line["cache_write_5m"], line["cache_write_1h"], line["cache_read"])
