"""What a body refers to at the provider: found wherever it stands, and never in the caller's own words."""

import json
from typing import Any

import pytest

from metering.classify import Dialect, Operation, RequestRefused, Route
from metering.references import REFERENCES_MAX, StoredKind
from metering.requests import MeteredRequest, read_request


def read(operation: Operation = Operation.RESPONSES, **fields: Any) -> MeteredRequest:
    route = Route(operation=operation, dialect=Dialect.OPENAI, upstream_path="/v1/x")
    return read_request(route, json.dumps({"model": "m"} | fields).encode())


def referred(**fields: Any) -> list[tuple[str, str, str]]:
    return [(one.kind.value, one.identity, one.field) for one in read(**fields).references]


def content(part: dict[str, Any]) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}, part]}]}


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"previous_response_id": "resp_1"}, ("response", "resp_1", "previous_response_id")),
        ({"conversation": "conv_1"}, ("conversation", "conv_1", "conversation")),
        ({"conversation": {"id": "conv_1"}}, ("conversation", "conv_1", "conversation")),
        ({"prompt": {"id": "pmpt_1", "version": "2", "variables": {"name": "Ada"}}}, ("prompt", "pmpt_1", "prompt")),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, ("item", "msg_1", "input")),
        ({"input": [{"id": "msg_1"}]}, ("item", "msg_1", "input")),
        ({"input": [{"type": "image_generation_call", "id": "ig_1"}]}, ("item", "ig_1", "input")),
        ({"input": [{"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": "1"}]}, ("container", "cntr_1", "container_id")),
        (content({"type": "input_file", "file_id": "file-1"}), ("file", "file-1", "file_id")),
        (content({"type": "input_image", "file_id": "file-1"}), ("file", "file-1", "file_id")),
        (content({"type": "input_hologram", "hologram": {"file_id": "file-1"}}), ("file", "file-1", "file_id")),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file", "file_id": "f"}]}]}, ("file", "f", "file_id")),
        ({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, ("container", "cntr_1", "container")),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}}]}, ("file", "file-1", "file_ids")),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, ("vector_store", "vs_1", "vector_store_ids")),
        ({"tools": [{"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_1"}}]}, ("container", "cntr_1", "container_id")),
        ({"tools": [{"type": "image_generation", "input_image_mask": {"file_id": "file-1"}}]}, ("file", "file-1", "file_id")),
        ({"container": "container_1"}, ("container", "container_1", "container")),
        ({"container": {"id": "container_1", "skills": []}}, ("container", "container_1", "container")),
        ({"container": {"skills": [{"type": "custom", "skill_id": "skill_1"}]}}, ("skill", "skill_1", "skill_id")),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]}]}, ("file", "f", "file_id")),
        ({"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]}, ("file", "f", "file_id")),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, ("file", "f", "file_id")),
        ({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, ("audio", "audio_1", "audio")),
    ],
)
def test_a_reference_is_found_wherever_it_stands(fields: dict[str, Any], found: tuple[str, str, str]) -> None:
    assert referred(**fields) == [found]


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "file_id: file-1"},
        {"prompt": "a text"},
        {"prompt": None, "conversation": None, "previous_response_id": None, "container": None},
        {"metadata": {"file_id": "mine"}},
        {"tools": [{"type": "function", "name": "f", "parameters": {"properties": {"file_id": {"type": "string"}}}}]},
        {"tools": [{"name": "f", "input_schema": {"file_id": {}}, "input_examples": [{"file_id": "mine"}]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"file_id": "mine"}}]}]},
        {"input": [{"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": '{"file_id":"mine"}'}]},
        {"input": [{"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}]},
        content({"type": "output_text", "text": "hi", "annotations": [{"type": "file_citation", "file_id": "file-1"}]}),
        content({"type": "input_file", "file_id": None, "file_data": "data:;base64,AA=="}),
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
        {"container": {"skills": [{"type": "anthropic", "skill_id": "pptx"}]}},
        {"audio": {"voice": "alloy", "format": "wav"}},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "audio": "AA=="}]}]},
    ],
)
def test_what_the_body_brings_itself_is_no_reference(fields: dict[str, Any]) -> None:
    request = read(**fields)

    assert (request.references, request.sealed) == ((), ())


def test_sealed_items_are_kept_apart_and_what_they_carry_is_none() -> None:
    bare, carried = {"type": "reasoning", "id": "rs_1", "summary": []}, {"type": "reasoning", "id": "rs_2", "encrypted_content": "x", "summary": []}

    request = read(input=[bare, carried, {"type": "reasoning", "summary": []}])

    assert request.references == ()
    assert [(one.kind, one.identity) for one in request.sealed] == [(StoredKind.ITEM, "rs_1")]


def test_a_reference_counts_once() -> None:
    assert len(read(input=[{"type": "item_reference", "id": "msg_1"}] * 3).references) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": 5},
        {"previous_response_id": ""},
        {"previous_response_id": "x" * 201},
        {"previous_response_id": "a\nb"},
        {"conversation": {}},
        {"conversation": ["conv_1"]},
        {"prompt": {"version": "2"}},
        {"input": [{"type": "item_reference", "id": 7}]},
        {"container": 5},
        {"tools": [{"type": "file_search", "vector_store_ids": [None]}]},
        content({"type": "input_file", "file_id": {"$ne": None}}),
        {"store": "no"},
    ],
)
def test_what_should_be_an_id_and_is_none_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused) as caught:
        read(**fields)

    assert caught.value.status == 400


@pytest.mark.parametrize("name", ["Previous_Response_Id", "CONVERSATION", "Prompt", "Container", "Store"])
def test_another_spelling_of_a_name_hides_nothing(name: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        read(Operation.RESPONSES, **{name: "x"})

    assert caught.value.status == 400


def test_more_references_than_anybody_needs_are_refused() -> None:
    items = [{"type": "item_reference", "id": f"msg_{number}"} for number in range(REFERENCES_MAX + 1)]

    assert len(read(input=items[:-1]).references) == REFERENCES_MAX
    with pytest.raises(RequestRefused) as caught:
        read(input=items)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("operation", "fields", "stored"),
    [
        (Operation.RESPONSES, {}, True),
        (Operation.RESPONSES, {"store": None}, True),
        (Operation.RESPONSES, {"store": True}, True),
        (Operation.RESPONSES, {"store": False}, False),
        (Operation.COMPACT, {}, False),
        (Operation.CHAT_COMPLETIONS, {"store": True}, False),
        (Operation.MESSAGES, {}, False),
    ],
)
def test_only_a_response_is_kept_by_its_provider_and_unless_told_otherwise(operation: Operation, fields: dict[str, Any], stored: bool) -> None:
    assert read(operation, **fields).stores is stored
