"""Recorded provider answers, cut at random bytes, through the running gateway: charged to the microunit.

The simulated providers replay the recordings; the rate card is one of this test, with a price of its own for
every kind of token, so that two kinds taken for one another show. What must be charged is computed here by
hand from `expected.json`.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.appliance import Account, Appliance, appliance

OWN = Path(__file__).parent.parent / "recordings"
SHARED = Path(os.environ.get("LEVEL5_TRANSCRIPTS", Path(__file__).parents[2].parent / "shared" / "transcripts"))
COLLECTIONS = {"own": OWN, "shared": SHARED}
PRICES = {"input": 1_000_000, "output": 7_000_000, "cache_write_5m": 1_300_000, "cache_write_1h": 2_900_000, "cache_read": 110_000}
SERVICE_TIERS = {"flex": 5_000, "priority": 20_000}
SEARCH_FEE = 10_000
MARKUP_BPS = 1_000
CLIENT = httpx.Client(timeout=60, verify=False)  # plain HTTP on loopback; making a TLS context for each call is slow
PATHS = {
    "messages": "/v1/messages",
    "chat_completions": "/v1/chat/completions",
    "responses": "/v1/responses",
    "compact": "/v1/responses/compact",
    "embeddings": "/v1/embeddings",
}


@dataclass(frozen=True)
class Recording:
    """One recorded answer and what it must cost."""

    name: str
    meta: dict[str, Any]
    expected: dict[str, Any]
    folder: Path

    @property
    def provider(self) -> str:
        provider = self.name.partition("/")[0]
        return provider if provider in ("anthropic", "openrouter") else "openai"

    @property
    def model(self) -> str:
        lines = self.expected.get("lines") or [{"model": self.expected.get("model")}]
        return str(lines[0]["model"] or self.meta.get("model_requested") or f"unnamed-{self.provider}-model")


def recordings(folder: Path) -> list[Recording]:
    """Return the recordings of requests that the gateway serves."""
    found = []
    for meta_file in sorted(folder.glob("*/*/meta.json")):
        meta = json.loads(meta_file.read_text())
        expected = json.loads(meta_file.with_name("expected.json").read_text())
        recording = Recording("/".join(meta_file.parts[-3:-1]), meta, expected, folder)
        queued = "background-post" in recording.name
        if meta["endpoint"] in PATHS and meta["method"] == "POST" and not queued:
            found.append(recording)
    return found


def hand_computed_charge(recording: Recording) -> int:
    """Return the microunits that the recording's usage costs on this test's rate card."""

    def effective(price: int, bps: int) -> int:
        return -(-price * bps * (10_000 + MARKUP_BPS) // 100_000_000)

    tier = SERVICE_TIERS.get(recording.expected.get("service_tier") or "", 10_000)
    numerator = 0
    for line in recording.expected["lines"]:
        counts = {
            "input": line["input_tokens"],
            "output": line["output_tokens"],
            "cache_write_5m": line["cache_write_5m"],
            "cache_write_1h": line["cache_write_1h"],
            "cache_read": line["cache_read"],
        }
        numerator += sum(count * effective(PRICES[kind], tier) for kind, count in counts.items())
    searches = recording.expected.get("server_tool_requests", {}).get("web_search", 0)
    return -(-numerator // 1_000_000) + searches * effective(SEARCH_FEE, 10_000)


def rate_card(all_recordings: list[Recording]) -> str:
    models = {(recording.provider, line["model"]) for recording in all_recordings for line in recording.expected.get("lines", [])}
    models |= {(recording.provider, recording.model) for recording in all_recordings}
    prices = "\n".join(f"{kind} = {price}" for kind, price in PRICES.items())
    tiers = ", ".join(f"{name} = {{bps = {bps}}}" for name, bps in SERVICE_TIERS.items())
    rows = [
        f'[{provider}."{model}"]\n{prices}\ncontext = 400_000\noutput_max = 64_000\nservice_tiers = {{{tiers}}}\nfees = {{web_search = {SEARCH_FEE}}}\n'
        for provider, model in sorted(models)
        if model
    ]
    return f"markup_bps = {MARKUP_BPS}\n\n" + "\n".join(rows)


def request_body(recording: Recording) -> dict[str, Any]:
    endpoint, streamed = recording.meta["endpoint"], bool(recording.meta.get("stream"))
    body: dict[str, Any] = {"model": recording.model}
    if endpoint == "messages":
        body |= {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 20_000}
    elif endpoint == "chat_completions":
        body |= {"messages": [{"role": "user", "content": "hello"}], "max_completion_tokens": 20_000}
        if streamed and recording.expected.get("client_asked_usage", True):
            body["stream_options"] = {"include_usage": True}
    elif endpoint in ("responses", "compact"):
        body["input"] = "hello"
    else:
        body["input"] = ["hello"]
    return body | ({"stream": True} if streamed else {})


@pytest.fixture(scope="module")
def replaying(store_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Appliance, list[Recording]]]:
    """An appliance whose providers replay all recordings there are; each has the name of its collection in its own."""
    together = tmp_path_factory.mktemp("recordings")
    for collection, folder in COLLECTIONS.items():
        for recorded in sorted(folder.glob("*/*/meta.json")):
            (together / recorded.parts[-3]).mkdir(exist_ok=True)
            (together / recorded.parts[-3] / f"{collection}-{recorded.parts[-2]}").symlink_to(recorded.parent.resolve(), target_is_directory=True)
    found = recordings(together)
    card = tmp_path_factory.mktemp("rates") / "rates.toml"
    card.write_text(rate_card(found))
    with appliance(store_home, LEVEL5_SANDBOX__RECORDINGS=str(together), LEVEL5_RATES=str(card), LEVEL5_LEDGER__CONCURRENT_REQUESTS="1000") as made:
        yield made, found


def replay(appliance: Appliance, account: Account, recording: Recording, seed: int) -> httpx.Response:
    prefix = "/api" if recording.provider == "openrouter" else ""
    address = f"{appliance.url}/proxy/{account.api_token}{prefix}{PATHS[recording.meta['endpoint']]}"
    headers = {"x-sandbox-script": f"recording={recording.name} seed={seed} chunk_bytes=512"}
    try:
        with CLIENT.stream("POST", address, json=request_body(recording), headers=headers) as answer:
            body = b""
            try:
                for piece in answer.iter_raw():
                    body += piece
            except httpx.RemoteProtocolError:
                pass  # a stream without its closing event is never ended politely
            return httpx.Response(answer.status_code, headers=answer.headers, content=body)
    except httpx.HTTPError as error:
        raise AssertionError(f"{recording.name}: {error!r}") from error


def status_shown(recording: Recording) -> int:
    """What the caller sees: the operator's own troubles with a provider are not the caller's."""
    status = int(recording.meta["status"])
    of_operator = status in (401, 402, 403) or ("quota" in recording.name and status == 429)
    return 502 if of_operator else status


def tells_of_operators_credit(recording: Recording) -> bool:
    """An answer that begins as a 200 and ends in an error about the operator's account; its last words are ours."""
    error = recording.expected.get("error") or {}
    return recording.meta["status"] == 200 and isinstance(error, dict) and error.get("code") == "insufficient_quota"


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_every_recording_is_charged_exactly_what_its_usage_costs(replaying: tuple[Appliance, list[Recording]], collection: str) -> None:
    if not COLLECTIONS[collection].is_dir():
        pytest.skip(f"there are no recordings at {COLLECTIONS[collection]}; set LEVEL5_TRANSCRIPTS to a folder of them")
    made, found = replaying[0], [recording for recording in replaying[1] if f"/{collection}-" in recording.name]
    assert found
    wrong: list[str] = []
    account = made.register("1000")
    for seed, recording in enumerate(found):
        before = made.balance(account)["usdc_balance"]

        answer = replay(made, account, recording, seed)

        charged = before - made.balance(account)["usdc_balance"]
        if answer.status_code != status_shown(recording):
            wrong.append(f"{recording.name}: status {answer.status_code}, not {status_shown(recording)}: {answer.text[:200]}")
        elif recording.expected["billable"] and recording.expected["final"]:
            by_hand = hand_computed_charge(recording)
            if charged != by_hand:
                wrong.append(f"{recording.name}: charged {charged}, by hand {by_hand}")
        elif recording.expected["billable"]:
            if charged < hand_computed_charge(recording):
                wrong.append(f"{recording.name}: charged {charged}, less than what is known ({hand_computed_charge(recording)})")
        elif recording.meta["status"] != 200 and charged:
            wrong.append(f"{recording.name}: charged {charged} for a refusal")
        shown = recording.folder / recording.name / recording.meta["response_file"]
        if tells_of_operators_credit(recording):
            if b"quota" in answer.content:
                wrong.append(f"{recording.name}: the caller is told of the operator's account")
        elif answer.status_code == 200 and recording.expected.get("client_asked_usage", True) and answer.content != shown.read_bytes():
            wrong.append(f"{recording.name}: the bytes are not the provider's")

    assert not wrong, "\n".join(wrong)
    made.verify()
