"""The adapters count every token once, whatever the provider calls it."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plutus_agent import Meter, PlutusError, PlutusUsageError, TrackResult, track_anthropic, track_openai
from plutus_agent.usage_figures import Figures, read_anthropic, read_openai

COUNT = st.integers(0, 10_000_000)
ZEROS = {"input_tokens": 0, "output_tokens": 0, "cache_read_tokens": 0, "reasoning_tokens": 0}


class Recorder:
    """Keeps what it is told, as a meter of somebody's own may do."""

    def __init__(self, *costs: int) -> None:
        self.calls: list[dict[str, Any]] = []
        self.costs = list(costs)

    def track(self, provider: str, **event: Any) -> TrackResult:
        self.calls.append({"provider": provider, **event})
        cost = self.costs.pop(0) if self.costs else 0
        return TrackResult(
            event_id=f"evt_{len(self.calls)}", org_id="org_1", provider=provider, model=event["model"], task_type="general", cost_microunits=cost
        )


def counts(call: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in call.items() if name.endswith("_tokens") and value}


def as_object(value: Any) -> Any:
    """Return dicts as objects with attributes, as the official SDKs have them."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_object(one) for name, one in value.items()})
    return [as_object(one) for one in value] if isinstance(value, list) else value


MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-sonnet-4-6",
    "usage": {
        "input_tokens": 11,
        "output_tokens": 22,
        "cache_read_input_tokens": 33,
        "cache_creation_input_tokens": 44,
        "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 4},
    },
}
COMPLETION = {
    "object": "chat.completion",
    "model": "o4-mini",
    "usage": {
        "prompt_tokens": 1000,
        "completion_tokens": 900,
        "total_tokens": 1900,
        "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 800},
    },
}
RESPONSE = {
    "object": "response",
    "model": "gpt-5",
    "usage": {
        "input_tokens": 1000,
        "output_tokens": 900,
        "input_tokens_details": {"cached_tokens": 600},
        "output_tokens_details": {"reasoning_tokens": 800},
        "total_tokens": 1900,
    },
}


@pytest.mark.parametrize("form", [dict, as_object])
def test_a_message_keeps_its_cache_reads_and_writes(form: Any) -> None:
    meter = Recorder()

    track_anthropic(meter, form(MESSAGE), task_type="code_review", workspace="prod")

    call = meter.calls[0]
    assert counts(call) == {"input_tokens": 11, "output_tokens": 22, "cache_read_tokens": 33, "cache_write_tokens": 44, "cache_write_1h_tokens": 4}
    assert (call["provider"], call["model"], call["source"], call["task_type"], call["workspace"]) == (
        "anthropic",
        "claude-sonnet-4-6",
        "anthropic",
        "code_review",
        "prod",
    )


def test_a_bare_usage_and_a_name_of_ones_own_will_do() -> None:
    meter = Recorder()

    track_anthropic(meter, MESSAGE["usage"], model="claude-mine")

    assert (meter.calls[0]["model"], meter.calls[0]["input_tokens"]) == ("claude-mine", 11)


@pytest.mark.parametrize("form", [dict, as_object])
def test_reasoning_is_a_part_of_the_completion_and_cached_input_a_part_of_the_prompt(form: Any) -> None:
    meter = Recorder()

    track_openai(meter, form(COMPLETION))
    track_openai(meter, form(RESPONSE))

    assert counts(meter.calls[0]) == {
        "input_tokens": 300,
        "output_tokens": 100,
        "reasoning_tokens": 800,
        "cache_read_tokens": 600,
        "cache_write_tokens": 100,
    }
    assert counts(meter.calls[1]) == {"input_tokens": 400, "output_tokens": 100, "reasoning_tokens": 800, "cache_read_tokens": 600}


def test_reasoning_beside_the_completion_is_told_by_the_total() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 130, "completion_tokens_details": {"reasoning_tokens": 100}}

    figures = read_openai({"usage": usage})

    assert figures is not None
    assert (figures.output_tokens, figures.reasoning_tokens) == (20, 100)


def test_reasoning_above_the_completion_is_not_believed() -> None:
    figures = read_openai({"prompt_tokens": 1, "completion_tokens": 20, "total_tokens": 21, "completion_tokens_details": {"reasoning_tokens": 30}})

    assert figures is not None
    assert (figures.output_tokens, figures.reasoning_tokens) == (0, 20)


def test_a_meter_with_the_plain_arguments_serves_where_nothing_else_is_to_be_said() -> None:
    class Plain:
        def track(
            self, provider: str, *, model: Any, task_type: Any, workspace: Any, input_tokens: int, output_tokens: int, cache_read_tokens: int, **rest: Any
        ) -> Any:
            assert set(rest) == {"reasoning_tokens", "source"}
            return "tracked"

    assert track_openai(Plain(), {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}) == "tracked"  # type: ignore[arg-type]  # as dynamic programs do


def test_what_openrouter_charged_is_the_cost() -> None:
    meter = Recorder()
    answer = {"model": "x/y", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.00014}}

    track_openai(meter, answer, provider="openrouter")
    track_openai(meter, {"model": "x/y", "usage": {**answer["usage"], "is_byok": True}}, provider="openrouter")  # type: ignore[dict-item]  # a dict of both
    track_openai(meter, answer)

    assert [call.get("cost_usd") for call in meter.calls] == [0.00014, None, None]


def test_a_stream_of_chunks_is_counted_by_its_last_figures() -> None:
    chunks: list[Any] = [
        {"object": "chat.completion.chunk", "model": "gpt-5", "choices": [{}], "usage": None},
        {"object": "chat.completion.chunk", "model": "gpt-5", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
    ]
    meter = Recorder()

    one_by_one = [track_openai(meter, as_object(chunk)) for chunk in chunks]
    track_openai(meter, chunks)

    assert [result.recorded for result in one_by_one] == [False, True]
    assert [counts(call) for call in meter.calls] == [{"input_tokens": 3, "output_tokens": 4}] * 2


def test_a_stream_of_a_response_is_counted_by_its_last_event() -> None:
    events: list[Any] = [
        {"type": "response.created", "response": {"object": "response", "model": "gpt-5", "usage": None}},
        {"type": "response.output_text.delta", "delta": "x"},
        {"type": "response.completed", "response": RESPONSE},
    ]
    meter = Recorder()

    for event in events:
        track_openai(meter, as_object(event))
    track_openai(meter, events)

    assert [call["model"] for call in meter.calls] == ["gpt-5", "gpt-5"]
    assert counts(meter.calls[0]) == counts(meter.calls[1])


def test_the_events_of_a_message_are_put_together() -> None:
    events: list[Any] = [
        {"type": "message_start", "message": {**MESSAGE, "usage": {**MESSAGE["usage"], "output_tokens": 1}}},  # type: ignore[dict-item]  # a dict
        {"type": "ping"},
        {"type": "content_block_delta", "delta": {"text": "x"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 22}},
        {"type": "message_stop"},
    ]
    meter = Recorder()

    track_anthropic(meter, [as_object(event) for event in events])

    assert counts(meter.calls[0]) == {"input_tokens": 11, "output_tokens": 22, "cache_read_tokens": 33, "cache_write_tokens": 44, "cache_write_1h_tokens": 4}
    with pytest.raises(PlutusUsageError, match="no closing usage"):
        track_anthropic(meter, events[:3])
    with pytest.raises(PlutusUsageError, match="only the output"):
        track_anthropic(meter, events[3])
    assert not track_anthropic(meter, events[0]).recorded
    assert len(meter.calls) == 1


def test_several_models_of_one_answer_are_events_of_their_own() -> None:
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "iterations": [
            {"type": "message", "input_tokens": 10, "output_tokens": 5},
            {"type": "advisor_message", "model": "claude-opus-4-6", "input_tokens": 7, "output_tokens": 3, "cache_creation_input_tokens": 2},
            {"type": "message", "input_tokens": 1, "output_tokens": 1},
        ],
    }
    meter = Recorder(100, 23)

    result = track_anthropic(meter, {"model": "claude-sonnet-4-6", "usage": usage})

    assert [(call["model"], counts(call)) for call in meter.calls] == [
        ("claude-sonnet-4-6", {"input_tokens": 11, "output_tokens": 6}),
        ("claude-opus-4-6", {"input_tokens": 7, "output_tokens": 3, "cache_write_tokens": 2}),
    ]
    assert (result.event_id, result.model, result.cost_microunits) == ("evt_1", "claude-sonnet-4-6", 123)


@pytest.mark.parametrize(
    ("short", "long", "written", "kept"), [(None, None, 9, 0), (9, 0, 9, 0), (0, 9, 9, 9), (4, 5, 9, 5), (0, 5, 9, 9), (4, 5, None, 5), (None, 3, None, 3)]
)
def test_cache_writes_are_split_by_how_long_they_live(short: int | None, long: int | None, written: int | None, kept: int) -> None:
    usage = {
        "input_tokens": 1,
        "output_tokens": 1,
        "cache_creation_input_tokens": written,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
    }

    figures = read_anthropic({"usage": usage})

    assert figures is not None
    assert figures[0].cache_write_1h_tokens == kept
    assert figures[0].cache_write_tokens == (9 if written or (short and long) else 3)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        "text",
        b"bytes",
        7,
        SimpleNamespace(),
        {"usage": {}},
        {"usage": {"prompt_tokens": "7"}},
        {"usage": {"prompt_tokens": True}},
        {"usage": {"prompt_tokens": -1}},
        {"usage": {"prompt_tokens": 10**12}},
        {"usage": {"prompt_tokens": 1.5}},
        {"object": "chat.completion", "choices": [], "usage": None},
        [],
        [{"object": "chat.completion.chunk"}],
        iter([]),
    ],
)
def test_what_is_no_answer_raises_and_records_nothing(answer: Any) -> None:
    meter = Recorder()

    for adapter in (track_openai, track_anthropic):
        with pytest.raises(PlutusUsageError) as refusal:
            adapter(meter, answer)
        assert isinstance(refusal.value, PlutusError)
        assert isinstance(refusal.value, TypeError)

    assert meter.calls == []


@given(prompt=COUNT, completion=COUNT, reasoning=COUNT, read=COUNT, written=COUNT, names=st.sampled_from([("prompt", "completion"), ("input", "output")]))
def test_no_token_of_openai_is_counted_twice_or_lost(prompt: int, completion: int, reasoning: int, read: int, written: int, names: tuple[str, str]) -> None:
    into, out = names
    reasoning, read = min(reasoning, completion), min(read, prompt)
    written = min(written, prompt - read)
    usage = {
        f"{into}_tokens": prompt,
        f"{out}_tokens": completion,
        "total_tokens": prompt + completion,
        f"{into}_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        f"{out}_tokens_details": {"reasoning_tokens": reasoning},
    }

    figures = read_openai(usage)

    assert figures is not None
    assert figures.input_tokens + figures.cache_read_tokens + figures.cache_write_tokens == prompt
    assert figures.output_tokens + figures.reasoning_tokens == completion
    assert (figures.cache_read_tokens, figures.cache_write_tokens, figures.reasoning_tokens) == (read, written, reasoning)


@given(
    told=st.lists(
        st.fixed_dictionaries({}, optional=dict.fromkeys(("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"), COUNT)),
        max_size=6,
    ),
    first=st.fixed_dictionaries({"input_tokens": COUNT, "output_tokens": COUNT}),
)
def test_the_last_word_on_each_kind_of_token_counts(told: list[dict[str, int]], first: dict[str, int]) -> None:
    events: list[Any] = [{"type": "message_start", "message": {"model": "m", "usage": first}}]
    events += [{"type": "message_delta", "usage": usage} for usage in [*told, {}]]
    last: dict[str, int] = dict(first)
    for usage in told:
        last |= usage

    assert read_anthropic(events) == (
        Figures(
            model="m",
            input_tokens=last["input_tokens"],
            output_tokens=last["output_tokens"],
            cache_read_tokens=last.get("cache_read_input_tokens", 0),
            cache_write_tokens=last.get("cache_creation_input_tokens", 0),
        ),
    )


@given(
    answer=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["usage", "prompt_tokens", "input_tokens", "output_tokens", "type", "response", "iterations", "prompt_tokens_details", "message"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_answer_whatever_raises_anything_else(answer: Any) -> None:
    for read in (read_openai, read_anthropic):
        try:
            read(answer)
        except PlutusUsageError:
            continue


def test_the_official_types_are_read() -> None:
    from anthropic.types import Message
    from openai.types import CreateEmbeddingResponse
    from openai.types.chat import ChatCompletion
    from openai.types.responses import Response

    meter = Recorder()
    track_anthropic(meter, Message.model_construct(**MESSAGE))
    track_openai(meter, ChatCompletion.model_construct(**COMPLETION))
    track_openai(meter, Response.model_construct(**RESPONSE))
    track_openai(meter, CreateEmbeddingResponse.model_construct(model="text-embedding-3-small", usage={"prompt_tokens": 8, "total_tokens": 8}))

    assert [sum(counts(call).values()) for call in meter.calls] == [114, 1900, 1900, 8]


def test_an_adapter_works_with_a_real_meter(tmp_path: Any) -> None:
    with Meter("Acme", tier="pro", db_path=tmp_path / "own.db") as meter:
        result = track_openai(meter, COMPLETION)

    assert result.recorded
    assert result.tracked_tokens_mtd == 1900
