"""Simulated answers: their counts can be worked out by hand, in every dialect."""

import json
from typing import Any

import pytest

from sandbox.answers import GREETING, Answer, compose_answer, count_words
from sandbox.catalogue import count_tokens, embed, find_model, list_models
from sandbox.chat import reply_to_chat
from sandbox.messages import reply_to_messages
from sandbox.refusals import refuse
from sandbox.replies import Reply
from sandbox.responses import reply_to_compact, reply_to_responses
from sandbox.script import WireScript, parse_script

TOOL = {"name": "read_balance", "input_schema": {"properties": {"account": {"type": "string"}, "kind": {"enum": ["all"]}}, "required": ["account", "kind"]}}


def answer_to(line: str = "", body: dict[str, Any] | None = None) -> Answer:
    return compose_answer({"model": "m", "messages": [{"role": "user", "content": "one two three"}], **(body or {})}, parse_script(line), serial="1")


def data_of(reply: Reply) -> list[dict[str, Any]]:
    lines = b"".join(reply.pieces).decode().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def body_of(reply: Reply) -> dict[str, Any]:
    return json.loads(b"".join(reply.pieces))


def test_input_tokens_are_the_words_of_all_texts() -> None:
    body = {
        "model": "not counted",
        "system": [{"type": "text", "text": "be brief"}],
        "messages": [
            {"role": "user", "content": "one two"},
            {"role": "assistant", "content": [{"type": "text", "text": "three"}, {"type": "tool_use", "name": "x", "input": {"k": "not counted"}}]},
            {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "four five"}]}]},
        ],
    }

    assert count_words(body) == 7


def test_numbered_tokens_count_one_each_and_an_empty_request_counts_one() -> None:
    assert count_words({"input": [11, 12, 13]}) == 3
    assert count_words({"messages": []}) == 1


def test_output_tokens_are_the_words_of_the_answer() -> None:
    assert answer_to().counts.output == len(GREETING.split())
    assert answer_to("text=two%20words").counts.output == 2
    assert answer_to("words=10 thinking=4 hidden=5").counts.output == 19
    assert answer_to("words=10 thinking=4 hidden=5").counts.reasoning == 9
    assert answer_to("words=5", {"n": 3}).counts.output == 15


def test_the_script_may_say_the_counts() -> None:
    counts = answer_to("input=7 output=9 cache_read=100 cache_write_5m=20 cache_write_1h=3").counts

    assert (counts.input, counts.output, counts.input_total, counts.cache_write) == (7, 9, 130, 23)


@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_an_output_limit_is_kept_to(key: str) -> None:
    answer = answer_to("words=50", {key: 8})

    assert answer.counts.output == 8
    assert answer.stop == "length"


def test_a_stream_has_as_many_text_events_as_wanted() -> None:
    assert len(answer_to("events=20").text) == 20
    assert len(answer_to("events=200").text) == 200
    assert "".join(answer_to("text=a%20b%20c").text) == "a b c"


def test_a_tool_is_called_with_its_required_fields() -> None:
    answer = answer_to("tool=1", {"tools": [TOOL]})

    assert answer.tool is not None
    assert answer.tool.name == "read_balance"
    assert json.loads(answer.tool.arguments) == {"account": "sandbox", "kind": "all"}
    assert reply_to_messages(answer, stream=False).pieces[0].count(b'"tool_use"') == 2


def test_anthropic_streams_begin_with_the_split_and_end_with_the_totals() -> None:
    events = data_of(reply_to_messages(answer_to("words=4 cache_write_1h=9 cache_write_5m=1 cache_read=5"), stream=True))

    assert [event["type"] for event in events[:3]] == ["message_start", "content_block_start", "ping"]
    assert events[0]["message"]["usage"]["cache_creation"] == {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 9}
    assert events[-2]["usage"] == {"input_tokens": 3, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 4}
    assert events[-1]["type"] == "message_stop"


def test_anthropic_usage_has_its_variants() -> None:
    def usages(variant: str) -> tuple[Any, Any]:
        events = data_of(reply_to_messages(answer_to(f"words=4 usage={variant}"), stream=True))
        return events[0]["message"].get("usage", "none"), events[-2].get("usage", "none")

    assert usages("absent") == ("none", "none")
    assert usages("null") == (None, None)
    assert usages("bare") == ({"input_tokens": 3, "output_tokens": 1}, {"input_tokens": 3, "output_tokens": 4})
    assert usages("output_only")[1] == {"output_tokens": 4}
    assert (usages("low_start")[0]["input_tokens"], usages("low_start")[1]["input_tokens"]) == (1, 3)
    assert usages("null_fields")[1]["cache_read_input_tokens"] is None


def test_anthropic_iterations_name_other_models() -> None:
    usage = body_of(reply_to_messages(answer_to("iterations=message::100:5,advisor_message:claude-opus-4-6:70:6 web_search=2"), stream=False))["usage"]

    assert [line.get("model") for line in usage["iterations"]] == [None, "claude-opus-4-6"]
    assert usage["server_tool_use"]["web_search_requests"] == 2


def test_openai_sends_the_usage_chunk_only_when_asked() -> None:
    asked = data_of(reply_to_chat(answer_to("words=2"), {"stream": True, "stream_options": {"include_usage": True}}, provider="openai"))
    unasked = data_of(reply_to_chat(answer_to("words=2"), {"stream": True}, provider="openai"))

    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["total_tokens"] == 5
    assert all(chunk["usage"] is None for chunk in asked[:-1])
    assert not any("usage" in chunk for chunk in unasked)


def test_openai_counts_cached_tokens_into_the_prompt() -> None:
    usage = body_of(reply_to_chat(answer_to("input=10 cache_read=20 cache_write_5m=5 hidden=2 words=3"), {}, provider="openai"))["usage"]

    assert usage["prompt_tokens"] == 35
    assert usage["prompt_tokens_details"] == {"cached_tokens": 20, "audio_tokens": 0, "cache_write_tokens": 5}
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 2


@pytest.mark.parametrize(("variant", "expected"), [("absent", "none"), ("null", None)])
def test_openai_usage_may_be_missing(variant: str, expected: object) -> None:
    script = f"words=2 usage={variant}"

    assert body_of(reply_to_chat(answer_to(script), {}, provider="openai")).get("usage", "none") == expected
    assert body_of(reply_to_responses(answer_to(script), {}, provider="openai")).get("usage", "none") == expected


def test_openrouter_puts_usage_into_the_chunk_with_the_finish_reason_and_its_cost_word_for_word() -> None:
    reply = reply_to_chat(answer_to("words=2 cost=0.000123"), {"stream": True}, provider="openrouter")
    last = data_of(reply)[-1]

    assert reply.pieces[0] == b": OPENROUTER PROCESSING\n\n"
    assert last["choices"][0]["finish_reason"] == "stop"
    assert b'"cost":0.000123,' in reply.pieces[-2]


def test_responses_end_with_the_event_that_has_the_usage() -> None:
    done = data_of(reply_to_responses(answer_to("words=3 tool=x"), {"stream": True}, provider="openai"))
    short = data_of(reply_to_responses(answer_to("words=30", {"max_output_tokens": 4}), {"stream": True}, provider="openrouter"))

    assert [event["sequence_number"] for event in done] == list(range(len(done)))
    assert done[-1]["type"] == "response.completed"
    assert done[-1]["response"]["usage"]["output_tokens"] == 4
    assert short[-1]["type"] == "response.incomplete"
    assert short[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_an_error_can_take_the_place_of_an_event() -> None:
    line = "words=8 stream_error=2"
    messages = data_of(reply_to_messages(answer_to(line), stream=True))
    chat = data_of(reply_to_chat(answer_to(line), {"stream": True}, provider="openai"))
    routed = data_of(reply_to_chat(answer_to(line), {"stream": True}, provider="openrouter"))
    responses = data_of(reply_to_responses(answer_to(line), {"stream": True}, provider="openai"))

    assert (len(messages), messages[-1]["type"]) == (3, "error")
    assert set(chat[-1]) == {"error"}
    assert {"error", "usage"} <= set(routed[-1])
    assert [event["type"] for event in responses[-2:]] == ["error", "response.failed"]


def test_small_answers_have_the_shapes_of_the_providers() -> None:
    embedded = body_of(embed({"input": ["a b", "c"], "dimensions": 3}, answer_to("", {"messages": [], "input": ["a b", "c"]}), provider="openai"))
    coded = body_of(embed({"input": "a", "encoding_format": "base64"}, answer_to(), provider="openai"))

    assert [len(row["embedding"]) for row in embedded["data"]] == [3, 3]
    assert embedded["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert isinstance(coded["data"][0]["embedding"], str)
    assert body_of(count_tokens({"messages": [{"content": "a b"}]}, answer_to(), responses=False)) == {"input_tokens": 2}
    assert "model" not in body_of(reply_to_compact(answer_to()))
    assert body_of(list_models("anthropic"))["has_more"] is False
    assert find_model("openai", "gpt-4o") is not None
    assert find_model("openai", "gpt-none") is None


def test_errors_are_in_the_words_of_the_provider() -> None:
    wire = WireScript(retry_after="3")

    assert body_of(refuse("anthropic", wire, status=529, serial="1"))["error"]["type"] == "overloaded_error"
    assert body_of(refuse("openai", WireScript(error="insufficient_quota"), status=429, serial="1"))["error"]["type"] == "insufficient_quota"
    assert body_of(refuse("openrouter", wire, status=402, serial="1"))["user_id"] == "user_sandbox"
    assert ("retry-after", "3") in refuse("openai", wire, status=429, serial="1").headers


def test_details_of_the_usage_may_be_null_or_left_out() -> None:
    def chat_usage(script: str, provider: str) -> dict[str, Any]:
        return body_of(reply_to_chat(answer_to(script), {}, provider=provider))["usage"]

    assert set(chat_usage("usage=bare", "anthropic")) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert chat_usage("usage=null_fields", "openai")["prompt_tokens_details"] is None
    assert body_of(reply_to_responses(answer_to("usage=null_fields"), {}, provider="openai"))["usage"]["input_tokens_details"] is None
    assert "input_tokens_details" not in body_of(reply_to_responses(answer_to("usage=bare"), {}, provider="openai"))["usage"]


def test_responses_show_reasoning_and_searches_as_items() -> None:
    script = "thinking=3 words=2 web_search=2 cache_write_flat=4"
    plain = body_of(reply_to_responses(answer_to(script), {}, provider="openai"))
    streamed = data_of(reply_to_responses(answer_to(script), {"stream": True}, provider="openai"))

    assert [item["type"] for item in plain["output"]] == ["reasoning", "web_search_call", "web_search_call", "message"]
    assert plain["usage"]["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 4}
    assert streamed[-1]["response"]["output"] == plain["output"]


def test_openrouter_shows_reasoning_and_tool_calls_in_a_plain_completion() -> None:
    choice = body_of(reply_to_chat(answer_to("thinking=2 words=1 tool=x"), {}, provider="openrouter"))["choices"][0]

    assert choice["message"]["reasoning"] == "first consider"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "x", "arguments": "{}"}
    assert choice["finish_reason"] == "tool_calls"
