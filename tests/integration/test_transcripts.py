"""Recorded answers of the real providers, cut anywhere, must give the usage that was worked out by hand."""

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from metering.classify import Operation
from metering.rates import Prices, Rate
from metering.requests import BodyLayout, InputBound, MeteredRequest
from metering.tally import Tally, open_tally
from metering.usage import Ending, Reading

ROOT = Path(__file__).resolve().parents[2]
TRANSCRIPTS = Path(os.environ.get("LEVEL5_TRANSCRIPTS") or ROOT.parent / "shared" / "transcripts")
OWN = ROOT / "tests" / "recordings"
# Recordings of our own making cover the same features for those who have only the clone.
FOLDERS = [found.parent for place in (TRANSCRIPTS, OWN) for found in sorted(place.glob("*/*/expected.json"))]
# Legacy completions and batches are refused before anything is sent; what is listed here is metered or free.
OPERATIONS = {
    "messages": Operation.MESSAGES,
    "count_tokens": Operation.COUNT_TOKENS,
    "chat_completions": Operation.CHAT_COMPLETIONS,
    "responses": Operation.RESPONSES,
    "input_tokens": Operation.INPUT_TOKENS,
    "compact": Operation.COMPACT,
    "embeddings": Operation.EMBEDDINGS,
}
PRICES = Prices(input=1, output=1, cache_write_5m=1, cache_write_1h=1, cache_read=1, input_audio=1, output_audio=1)
BYTE_BY_BYTE_MAX = 20_000


@dataclass(frozen=True)
class Transcript:
    name: str
    operation: Operation
    provider: str
    model: str
    stream: bool
    status: int
    content_type: str
    body: bytes
    expected: dict[str, Any]

    def open(self) -> Tally:
        request = MeteredRequest(
            operation=self.operation,
            model=self.model,
            body=b"{}",
            layout=BodyLayout(spans={}, closing=1, empty=True),
            input=InputBound(text_bytes=400),
            stream=self.stream,
        )
        rate = Rate(provider=self.provider, model=self.model, provider_model=self.model, prices=PRICES, markup_bps=0, context=200_000, output_max=64_000)
        return open_tally(self.operation, provider=self.provider, request=request, rate=rate, status=self.status, content_type=self.content_type)

    def replay(self, pieces: list[bytes]) -> Reading:
        tally = self.open()
        for piece in pieces:
            tally.feed(piece)
        return tally.close()


def load(folder: Path) -> Transcript:
    meta, expected = json.loads((folder / "meta.json").read_text()), json.loads((folder / "expected.json").read_text())
    if meta["endpoint"] not in OPERATIONS:
        pytest.skip(f"{meta['endpoint']} is refused, never metered")
    asked = json.loads((folder / "request.json").read_text()) if (folder / "request.json").exists() else None
    asked = asked if isinstance(asked, dict) else {}
    content_type = next(iter(meta.get("response_headers", {}).get("content-type", [])), "")
    if not content_type:
        content_type = "text/event-stream" if meta["response_file"].endswith(".sse") else "application/json"
    return Transcript(
        name=f"{folder.parent.name}/{folder.name}",
        operation=OPERATIONS[meta["endpoint"]],
        provider=meta["provider"],
        model=asked.get("model") or meta.get("model_requested") or expected.get("model") or "unnamed",
        stream=bool(meta.get("stream")),
        status=meta["status"],
        content_type=content_type,
        body=(folder / meta["response_file"]).read_bytes(),
        expected=expected,
    )


def cut_at_random(body: bytes, pieces: int, seed: str) -> list[bytes]:
    chosen = random.Random(seed)
    cuts = sorted(chosen.randrange(len(body) + 1) for _ in range(pieces - 1))
    return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def lines_of(reading: Reading) -> list[dict[str, Any]]:
    usage = reading.usage or reading.estimated
    return [
        {
            "model": line.model,
            "input_tokens": line.input_tokens,
            "output_tokens": line.output_tokens,
            "cache_write_5m": line.cache_write_5m_tokens or 0,
            "cache_write_1h": line.cache_write_1h_tokens or 0,
            "cache_read": line.cache_read_tokens or 0,
        }
        for line in (usage.lines if usage else ())
    ]


def check(reading: Reading, expected: dict[str, Any]) -> None:
    assert (reading.usage is not None) == expected["final"]
    if expected["final"]:
        assert reading.usage is not None
        assert lines_of(reading) == expected["lines"]
        assert reading.usage.model == expected["model"]
        assert reading.estimated is None
        check_details(reading, expected)
    elif expected["billable"]:
        # The closing figures never came: input and cache exactly, output no less than the floor that was told.
        (known,), (line,) = expected["lines"], lines_of(reading)
        assert line == known | {"output_tokens": line["output_tokens"]}
        assert line["output_tokens"] >= known["output_tokens"]
    else:
        check_nothing_billed(reading, expected)


def check_details(reading: Reading, expected: dict[str, Any]) -> None:
    usage = reading.usage
    assert usage is not None
    cost = expected.get("provider_cost_usd")
    assert (usage.provider_cost_usd is None) == (cost is None)
    if cost is not None:
        assert float(usage.provider_cost_usd or "") == cost
    searches = expected.get("server_tool_requests", {}).get("web_search", 0)
    assert sum(times for line in usage.lines for name, times in line.fees if name == "web_search") == searches
    audio = expected.get("audio", {})
    assert sum(line.input_audio_tokens for line in usage.lines) == audio.get("input", 0)
    assert usage.service_tier == expected.get("service_tier")
    if expected.get("response_id") is not None:
        assert usage.response_id == expected["response_id"]


def check_nothing_billed(reading: Reading, expected: dict[str, Any]) -> None:
    if "error" in expected:
        assert reading.ended is Ending.ERROR
        assert reading.error is not None
        assert not reading.output_seen
        assert reading.estimated is None
    elif expected.get("stream_done"):
        # A stream that came without figures because nobody asked for them: the gateway asks, so this one counts as unreadable.
        assert reading.ended is Ending.UNREADABLE
        assert reading.estimated is not None
    else:
        assert reading.ended is Ending.COMPLETE
        assert reading.estimated is None


def test_the_recorded_transcripts_are_there() -> None:
    if not TRANSCRIPTS.is_dir():
        pytest.skip(f"no recorded transcripts at {TRANSCRIPTS}; LEVEL5_TRANSCRIPTS names another place")

    assert any(TRANSCRIPTS.glob("*/*/expected.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_a_recorded_answer_gives_the_expected_usage_however_it_is_cut(folder: Path) -> None:
    transcript = load(folder)
    whole = transcript.replay([transcript.body])

    check(whole, transcript.expected)
    for pieces in (2, 3, 7, 40, 200):
        assert transcript.replay(cut_at_random(transcript.body, pieces, f"{transcript.name} {pieces}")) == whole
    if len(transcript.body) <= BYTE_BY_BYTE_MAX:
        assert transcript.replay([transcript.body[at : at + 1] for at in range(len(transcript.body))]) == whole


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_a_recorded_stream_means_the_same_with_crlf_and_with_cr(folder: Path) -> None:
    transcript = load(folder)
    if b"data:" not in transcript.body or b"\r" in transcript.body:
        pytest.skip("not a stream with LF")
    whole = transcript.replay([transcript.body])

    for line_end in (b"\r\n", b"\r"):
        body = transcript.body.replace(b"\n", line_end)
        assert transcript.replay([body]) == whole
        assert transcript.replay(cut_at_random(body, 100, transcript.name)) == whole


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_a_recorded_stream_that_is_cut_is_never_free_after_output_and_never_dearer_than_its_bound(folder: Path) -> None:
    transcript = load(folder)
    if b"data:" not in transcript.body or not transcript.expected["final"]:
        pytest.skip("not a stream with closing figures")
    for at in random.Random(transcript.name).sample(range(len(transcript.body)), 20):
        reading = transcript.replay([transcript.body[:at]])

        charged = reading.usage or reading.estimated
        assert charged is not None or not reading.output_seen
        if charged is not None and reading.output_seen:
            assert sum(line.output_tokens for line in charged.lines) > 0
