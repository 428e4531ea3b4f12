"""What an answer leaves at its provider, as far as its own bytes tell."""

import json
from typing import Any

import pytest

from metering.classify import Dialect, Operation, Route
from metering.rates import Prices, Rate
from metering.requests import read_request
from metering.tally import open_tally

PRICES = Prices(input=1, output=1, cache_write_5m=1, cache_write_1h=1, cache_read=1, input_audio=1, output_audio=1)
RATE = Rate(provider="openai", model="m", provider_model="m", prices=PRICES, markup_bps=0, context=1000, output_max=500)
USAGE = {"input_tokens": 1, "output_tokens": 1}
CALL = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"}
RESPONSE = {"id": "resp_1", "status": "completed", "output": [{"type": "reasoning", "id": "rs_1"}, CALL, CALL, {"type": "message"}, 5], "usage": USAGE}


def made(operation: Operation, *chunks: bytes, **fields: Any) -> tuple[str, ...]:
    request = read_request(Route(operation=operation, dialect=Dialect.OPENAI, upstream_path="/v1/x"), json.dumps({"model": "m"} | fields).encode())
    kind = "text/event-stream" if request.stream else "application/json"
    tally = open_tally(operation, provider="openai", request=request, rate=RATE, status=200, content_type=kind)
    for chunk in chunks:
        tally.feed(chunk)
    reading = tally.close()
    usage = reading.usage or reading.estimated
    return usage.made if usage is not None else ()


def event(kind: str, **content: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | content)}\n\n".encode()


def test_a_response_leaves_itself_its_items_and_the_containers_of_its_code() -> None:
    assert made(Operation.RESPONSES, json.dumps(RESPONSE).encode()) == ("resp_1", "rs_1", "ci_1", "cntr_1")


def test_a_streamed_response_leaves_the_same() -> None:
    begun = event("response.created", response={"id": "resp_1", "output": []})

    assert made(Operation.RESPONSES, begun, event("response.completed", response=RESPONSE), stream=True) == ("resp_1", "rs_1", "ci_1", "cntr_1")


def test_a_stream_that_was_cut_leaves_the_response_that_it_began() -> None:
    begun = event("response.created", response={"id": "resp_1", "output": []})

    assert made(Operation.RESPONSES, begun, event("response.output_text.delta", delta="hi"), stream=True) == ("resp_1",)


@pytest.mark.parametrize(("fields", "told"), [({"store": False}, {}), ({}, {"store": False})])
def test_what_is_not_stored_leaves_its_containers_alone(fields: dict[str, Any], told: dict[str, Any]) -> None:
    assert made(Operation.RESPONSES, json.dumps(RESPONSE | told).encode(), **fields) == ("cntr_1",)


def test_a_compaction_leaves_nothing() -> None:
    assert made(Operation.COMPACT, json.dumps({"id": "resp_c", "output": [{"type": "compaction", "id": "cmp_1"}], "usage": USAGE}).encode()) == ()


def test_a_message_leaves_the_container_that_its_code_ran_in() -> None:
    message = {"id": "msg_1", "content": [], "usage": USAGE}
    container = {"id": "container_1", "expires_at": "2026-01-01T00:00:00Z"}

    assert made(Operation.MESSAGES, json.dumps(message | {"container": container}).encode()) == ("container_1",)
    assert made(Operation.MESSAGES, json.dumps(message | {"container": None}).encode()) == ()
    begun, stop = event("message_start", message=message), event("message_stop")
    ended = event("message_delta", delta={"stop_reason": "end_turn", "container": container}, usage=USAGE)
    assert made(Operation.MESSAGES, begun, ended, stop, stream=True) == ("container_1",)


def test_a_chat_completion_leaves_nothing_that_could_be_referred_to() -> None:
    body = {"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}

    assert made(Operation.CHAT_COMPLETIONS, json.dumps(body).encode(), store=True) == ()
