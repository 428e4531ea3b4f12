"""What is read of a body, and which bodies are refused."""

import gzip
import json
from typing import Any

import pytest

from metering.classify import Dialect, Operation, RequestRefused, Route
from metering.requests import (
    AUDIO_CHARACTERS_PER_TOKEN,
    FRAME_TOKENS,
    FRAME_TOKENS_BY_MODEL,
    IMAGE_TOKENS,
    IMAGE_TOKENS_ANTHROPIC,
    TOOLS_FRAME_TOKENS,
    TYPED_TOOL_TOKENS,
    MeteredRequest,
    ServerTool,
    read_request,
)

PICTURE = "iVBORw0KGgo" * 1000


def route(operation: Operation = Operation.MESSAGES) -> Route:
    dialect = Dialect.ANTHROPIC if operation is Operation.MESSAGES else Dialect.OPENAI
    return Route(operation=operation, dialect=dialect, upstream_path="/v1/anything")


def read(operation: Operation = Operation.MESSAGES, **fields: Any) -> MeteredRequest:
    return read_request(route(operation), json.dumps({"model": "m", **fields}).encode())


def refused(body: bytes, operation: Operation = Operation.MESSAGES, *, content_encoding: str = "") -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        read_request(route(operation), body, content_encoding=content_encoding)
    return caught.value


def refused_fields(operation: Operation = Operation.MESSAGES, **fields: Any) -> RequestRefused:
    return refused(json.dumps({"model": "m", **fields}).encode(), operation)


def test_the_facts_of_a_plain_request_are_read() -> None:
    body = b'{"model":"claude-sonnet-4-6","max_tokens":1024,"stream":true,"messages":[]}'

    request = read_request(route(), body)

    assert (request.operation, request.model, request.stream) == (Operation.MESSAGES, "claude-sonnet-4-6", True)
    assert (request.output_limit, request.output_limit_field, request.choices, request.passes) == (1024, "max_tokens", 1, 1)
    assert request.body is body
    assert request.input.text_bytes == len(body) + FRAME_TOKENS
    assert not any((request.wants_usage, request.cache_write, request.server_tools, request.features, request.tiers, request.other_models))


def test_escaped_names_and_values_are_what_the_provider_reads_too() -> None:
    request = read_request(route(), rb'{"mod\u0065l":"\u006d","str\u0065am":true,"max_token\u0073":5}')

    assert (request.model, request.stream, request.output_limit) == ("m", True, 5)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{}x",
        b"[]",
        b"null",
        b'"text"',
        b'{"model":"m",}',
        b'{"model":"m"}{}',
        b'{"model":"m"} true',
        b'{"model" "m"}',
        b'{"model":"m" "stream":true}',
        b"{'model':'m'}",
        b'{model:"m"}',
        b'{"model":"m","n":NaN}',
        b'{"model":"m","x":[Infinity]}',
        b'{"model":"m","x":-Infinity}',
        b'{"model":"m","x":01}',
        b'{"model":"m","x":"\n"}',
        b'{"model":"m","x":"\xff"}',
        b'{"model":"m","x":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"model":"m"}',
        '{"model":"m"}'.encode("utf-16"),
        b'{"model":"m","model":"m"}',
        rb'{"model":"m","mod\u0065l":"dearer"}',
        b'{"model":"m","stream_options":{"include_usage":true,"include_usage":false}}',
        b'{"model":"m","x":' + b"9" * 5000 + b"}",
        b'{"model":"m","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"model":"m","x":' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"}",
    ],
)
def test_what_is_not_one_strict_json_object_is_refused(body: bytes) -> None:
    error = refused(body)

    assert (error.status, error.code, error.dialect) == (400, "invalid_json", Dialect.ANTHROPIC)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"model":}', "Expecting value at character 9"),
        (b'{"model":"m","x":}', "Expecting value at character 17"),
        (b'{"model":"m","x":tru}', "Expecting value at character 17"),
        (b'{"model":"m","x":[1,]}', "at character"),
        (b'{"model":"m" , , "x":1}', "Expecting a name in double quotes at character 15"),
        (b'{"model":"m" "x":1}', "Expecting ',' or '}' at character 13"),
    ],
)
def test_who_wrote_bad_json_is_told_where(body: bytes, where: str) -> None:
    assert where in refused(body).message


def test_nesting_that_a_parser_takes_does_no_harm() -> None:
    depth = 400
    body = b'{"model":"m","messages":' + b"[" * depth + b'{"cache_control":{"ttl":"1h"}}' + b"]" * depth + b"}"

    assert read_request(route(), body).cache_write == {"1h"}


@pytest.mark.parametrize("model", [None, "", 7, ["m"], "m" * 201, "m\n", "\ud800"])
def test_a_missing_or_unusable_model_is_refused_by_name(model: object) -> None:
    error = refused_fields(model=model)

    assert (error.status, error.details) == (400, {"field": "model"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream", "yes"),
        ("stream", 1),
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", True),
        ("max_tokens", 1.0),
        ("max_tokens", "5"),
        ("max_tokens", 10**9),
        ("n", 0),
        ("n", -3),
        ("n", 129),
        ("n", False),
        ("stream_options", True),
        ("stream_options", []),
        ("service_tier", 5),
        ("service_tier", "a\tb"),
        ("tools", {}),
        ("messages", "text"),
        ("messages", {}),
        ("input", 5),
        ("system", 5),
        ("MAX_TOKENS", 5),
        ("Model", "dearer"),
        ("max_tool_calls", 0),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(field: str, value: object) -> None:
    error = refused_fields(**{field: value})

    assert (error.status, error.code, error.details) == (400, "invalid_request", {"field": field})
    assert repr(field) in error.message


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": 5}]}, "tools[].type"),
        ({"tools": [{"type": "web_search_20250305", "max_uses": 0}]}, "tools[].max_uses"),
        ({"tools": [{"type": "web_search_20250305", "max_uses": True}]}, "tools[].max_uses"),
        ({"tools": [{"type": "advisor_20260301", "max_tokens": "all"}]}, "tools[].max_tokens"),
        ({"models": [f"m{number}" for number in range(20)]}, "models"),
    ],
)
def test_a_wrong_value_inside_a_field_is_refused_by_its_place(fields: dict[str, Any], place: str) -> None:
    assert refused_fields(**fields).details == {"field": place}


@pytest.mark.parametrize("fields", [{"stream": None}, {"max_tokens": None}, {"n": None}, {"stream_options": None}, {"tools": None}, {"service_tier": None}])
def test_null_is_the_same_as_absent(fields: dict[str, None]) -> None:
    request = read(**fields)

    assert (request.stream, request.output_limit, request.choices, request.wants_usage) == (False, None, 1, False)


def test_of_two_output_limits_the_larger_counts() -> None:
    request = read(Operation.CHAT_COMPLETIONS, max_tokens=900, max_completion_tokens=50)

    assert (request.output_limit, request.output_limit_field) == (900, "max_tokens")


@pytest.mark.parametrize(
    ("operation", "field"),
    [
        (Operation.MESSAGES, "max_tokens"),
        (Operation.CHAT_COMPLETIONS, "max_completion_tokens"),
        (Operation.RESPONSES, "max_output_tokens"),
        (Operation.COMPACT, None),
        (Operation.EMBEDDINGS, None),
    ],
)
def test_where_no_limit_stands_the_field_is_told_that_would_hold_it(operation: Operation, field: str | None) -> None:
    request = read(operation)

    assert (request.output_limit, request.output_limit_field) == (None, field)


def test_a_compressed_body_is_read_plain() -> None:
    plain = b'{"model":"m"}'

    assert read_request(route(), gzip.compress(plain), content_encoding="gzip").body == plain


def test_a_refused_encoding_speaks_the_dialect_of_the_route() -> None:
    error = refused(b"", content_encoding="lzma")

    assert (error.status, error.dialect) == (415, Dialect.ANTHROPIC)


def test_usage_is_wanted_only_where_it_was_asked_for() -> None:
    assert read(Operation.CHAT_COMPLETIONS, stream_options={"include_usage": True}).wants_usage
    assert not read(Operation.CHAT_COMPLETIONS, stream_options={"include_usage": False}).wants_usage


def message(*parts: object) -> list[object]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("operation", "part", "tokens"),
    [
        (Operation.MESSAGES, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}}, IMAGE_TOKENS_ANTHROPIC),
        (Operation.CHAT_COMPLETIONS, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PICTURE}}, IMAGE_TOKENS),
        (Operation.CHAT_COMPLETIONS, {"type": "image_url", "image_url": "data:image/png;base64," + PICTURE}, IMAGE_TOKENS),
    ],
)
def test_an_inlined_image_counts_by_rule_and_not_by_its_bytes(operation: Operation, part: dict[str, Any], tokens: int) -> None:
    bound = read(operation, messages=message(part)).input

    assert (bound.media_tokens, bound.remote) == (tokens, False)
    assert bound.text_bytes < 500


def test_images_of_the_responses_format_count_wherever_they_stand() -> None:
    address = "data:image/png;base64," + PICTURE
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": address}]},
        {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": address}},
        {"type": "function_call_output", "output": [{"type": "input_image", "image_url": address}]},
        {"type": "image_generation_call", "id": "ig_1", "result": PICTURE},
    ]

    bound = read(Operation.RESPONSES, input=items).input

    assert (bound.media_tokens, bound.remote) == (4 * IMAGE_TOKENS, False)
    assert bound.text_bytes < 1000


def test_images_inside_tool_results_count() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}}

    bound = read(messages=message({"type": "tool_result", "tool_use_id": "t", "content": [picture, picture]})).input

    assert bound.media_tokens == 2 * IMAGE_TOKENS_ANTHROPIC


def test_a_model_that_bills_images_dearly_is_held_dearly() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}

    assert read(Operation.CHAT_COMPLETIONS, model="gpt-4o-mini-2024-07-18", messages=message(part)).input.media_tokens == 50_000


@pytest.mark.parametrize(
    "place",
    [
        {"tools": [{"name": "t", "input_examples": [{"type": "image", "source": {"data": PICTURE}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_use", "input": {"type": "image", "source": {"data": PICTURE}}}]}]},
        {"input": [{"type": "local_shell_call", "action": {"env": {"type": "image", "source": {"data": PICTURE}}}}]},
        {"note": {"type": "image_url", "image_url": "data:image/png;base64," + PICTURE}},
        {"input": [{"type": "input_text", "text": PICTURE}]},
    ],
)
def test_what_only_looks_like_an_image_counts_by_its_bytes(place: dict[str, Any]) -> None:
    assert read(**place).input.text_bytes > len(PICTURE)


def test_references_are_found_in_places_that_are_not_known() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}

    assert read(Operation.CHAT_COMPLETIONS, messages=[{"role": "assistant", "images": [picture]}]).input.remote


def test_a_prompt_of_the_providers_own_counts_also_when_only_a_fallback_has_one() -> None:
    asked, fallback = read(model="x-ai/grok-4"), read(models=["x-ai/grok-4"])

    assert asked.input.text_bytes - len(asked.body) == fallback.input.text_bytes - len(fallback.body) == FRAME_TOKENS_BY_MODEL["grok"]


def test_sound_counts_by_its_length() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "A" * 1001, "format": "mp3"}}

    request = read(Operation.CHAT_COMPLETIONS, messages=message(part))

    assert request.input.audio_tokens == 1001 // AUDIO_CHARACTERS_PER_TOKEN + 1
    assert request.features == {"audio_input"}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "source": {"type": "url", "url": "https://example.test/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.test/a.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}},
        {"type": "document"},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}},
        {"type": "image_url"},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_file", "file_url": "https://example.test/a.pdf"},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
        {"type": "video_url", "video_url": {"url": "https://example.test/a.mp4"}},
        {"type": "input_audio"},
    ],
)
def test_content_that_cannot_be_seen_or_measured_counts_as_a_full_context(part: dict[str, Any]) -> None:
    assert read(Operation.CHAT_COMPLETIONS, messages=message(part)).input.remote


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"container": "container_1"},
        {"mcp_servers": [{"type": "url", "url": "https://example.test"}]},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"id": "msg_1"}]},
        {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]},
        {"input": [{"type": "image_generation_call", "id": "ig_1"}]},
    ],
)
def test_stored_content_counts_as_a_full_context(fields: dict[str, Any]) -> None:
    assert read(Operation.RESPONSES, **fields).input.remote


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": None},
        {"mcp_servers": []},
        {"input": [{"role": "user", "content": "https://example.test/a.png"}]},
        {"input": [{"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAAA"}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "plain"}}]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": {"type": "file", "file": "x"}}]}]},
        {"tools": [{"name": "t", "input_schema": {"properties": {"file": {"type": "file"}}}}]},
    ],
)
def test_what_stands_in_the_body_is_not_taken_for_a_reference(fields: dict[str, Any]) -> None:
    request = read(Operation.RESPONSES, **fields)

    assert not request.input.remote
    assert not request.input.files


def test_cache_writes_are_found_wherever_they_are_asked_for() -> None:
    def marked(ttl: str | None) -> dict[str, Any]:
        return {"cache_control": {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})}

    assert read(system=[{"type": "text", "text": "x", **marked(None)}]).cache_write == {"5m"}
    assert read(tools=[{"name": "t", "input_schema": {}, **marked("1h")}]).cache_write == {"1h"}
    assert read(messages=message({"type": "text", "text": "x", **marked("5m")}, {"type": "text", "text": "y", **marked("1h")})).cache_write == {"5m", "1h"}
    assert read(**marked("30d")).cache_write == {"1h"}
    assert read(cache_control={"ttl": ["5m"]}).cache_write == {"1h"}
    assert read(cache_control=None).cache_write == frozenset()


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ({"type": "web_search_20250305", "name": "web_search", "max_uses": 5}, ServerTool(name="web_search", max_uses=5)),
        ({"type": "web_search"}, ServerTool(name="web_search")),
        ({"type": "web_search_preview_2025_03_11"}, ServerTool(name="web_search")),
        ({"type": "openrouter:web_search", "parameters": {"max_uses": 1}}, ServerTool(name="web_search", max_uses=1)),
        ({"type": "web_fetch_20250910", "max_uses": None}, ServerTool(name="web_fetch")),
        ({"type": "code_execution_20260120"}, ServerTool(name="code_execution")),
        ({"type": "file_search", "vector_store_ids": []}, ServerTool(name="file_search")),
        ({"type": "image_generation"}, ServerTool(name="image_generation")),
        ({"type": "mcp", "server_url": "https://example.test"}, ServerTool(name="mcp")),
        ({"type": "mcp_toolset"}, ServerTool(name="mcp")),
        ({"type": "tool_search_tool_regex_20251119"}, ServerTool(name="tool_search")),
        ({"type": "shell", "environment": {"type": "container_auto"}}, ServerTool(name="shell")),
        ({"type": "something_new"}, ServerTool(name="something_new")),
        ({"type": "advisor_20260301", "model": "wise", "max_tokens": 9}, ServerTool(name="advisor", model="wise", output_limit=9)),
    ],
)
def test_tools_that_the_provider_runs_are_named_after_their_fee(tool: dict[str, Any], expected: ServerTool) -> None:
    request = read(tools=[tool])

    assert request.server_tools == (expected,)
    assert request.other_models == ((expected.model,) if expected.model else ())
    assert request.input.text_bytes == len(request.body) + FRAME_TOKENS + TOOLS_FRAME_TOKENS + TYPED_TOOL_TOKENS


@pytest.mark.parametrize(
    "tool",
    [
        {"name": "t", "input_schema": {}},
        {"type": "custom", "name": "t"},
        {"type": "function", "function": {"name": "t"}},
        {"type": "bash_20250124"},
        {"type": "text_editor_20250728"},
        {"type": "computer_20251124"},
        {"type": "memory_20250818"},
        {"type": "local_shell"},
        {"type": "apply_patch"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "tool_search", "execution": "client"},
        {"type": "namespace", "tools": [{"type": "function", "name": "inner"}]},
        {"type": "namespace"},
    ],
)
def test_tools_that_the_client_runs_are_none_of_the_providers(tool: dict[str, Any]) -> None:
    assert read(tools=[tool]).server_tools == ()


def test_tools_in_a_namespace_and_repeated_tools_count_together() -> None:
    nested = {"type": "namespace", "tools": [{"type": "web_search", "max_uses": 2}]}

    assert read(tools=[nested, {"type": "web_search", "max_uses": 3}]).server_tools == (ServerTool(name="web_search", max_uses=5),)
    assert read(tools=[nested, {"type": "web_search"}]).server_tools == (ServerTool(name="web_search"),)
    assert read(tools=[{"type": "web_search"}], max_tool_calls=4).server_tools == (ServerTool(name="web_search", max_uses=4),)


@pytest.mark.parametrize(
    ("fields", "features"),
    [
        ({"background": True}, {"background"}),
        ({"background": False}, set()),
        ({"plugins": [{"id": "web"}, {"id": "pdf", "enabled": False}]}, {"plugin:web"}),
        ({"plugins": ["web"]}, {"plugin:unknown"}),
        ({"modalities": ["text", "audio"], "audio": {"voice": "a"}}, {"audio_output"}),
        ({"modalities": ["image", "text"]}, {"image_output"}),
        ({"modalities": ["text"]}, set()),
        ({"route": "fallback"}, set()),
        ({"route": "cheapest"}, {"route:cheapest"}),
        ({"preset": "mine"}, {"preset:mine"}),
        ({"web_search_options": {}}, {"web_search_options"}),
    ],
)
def test_modes_that_tokens_do_not_pay_for_are_told(fields: dict[str, Any], features: set[str]) -> None:
    assert read(Operation.CHAT_COMPLETIONS, **fields).features == features


def test_service_tier_speed_and_place_are_told_under_the_names_of_the_rate_card() -> None:
    request = read(service_tier="priority", speed="fast", inference_geo="us")

    assert (request.service_tier, request.tiers) == ("priority", ("priority", "speed_fast", "geo_us"))
    assert read(speed="standard", inference_geo="global").tiers == ()


def test_models_that_may_answer_instead_are_told_once_each() -> None:
    tools = [{"type": "advisor_20260301", "model": "wise"}]

    request = read(models=["m", "a", "b", "a"], fallbacks=[{"model": "c"}, 5], tools=tools)

    assert request.fallback_models == ("a", "b", "c")
    assert request.other_models == ("a", "b", "c", "wise")


@pytest.mark.parametrize("management", [{"edits": [{"type": "compact_20260112"}]}, [{"type": "compaction"}]])
def test_compaction_reads_the_input_once_more(management: object) -> None:
    assert read(context_management=management).passes == 2


@pytest.mark.parametrize("management", [None, 5, {"edits": [{"type": "clear_thinking_20251015"}, 5]}, {"edits": [{"type": ["compact"]}]}])
def test_other_context_management_reads_it_once(management: object) -> None:
    assert read(context_management=management).passes == 1


@pytest.mark.parametrize("odd", [5, "text", [[]], [5, None], {"type": []}, {"type": "image", "source": 5}, [{"content": {"a": 1}}]])
def test_contents_of_odd_forms_are_left_to_the_provider(odd: object) -> None:
    for fields in ({"messages": [odd]}, {"input": [odd]}, {"metadata": odd}, {"thinking": odd}, {"fallbacks": odd}):
        assert read(Operation.RESPONSES, **fields).model == "m"
