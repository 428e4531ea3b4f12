"""What is changed in a stream on its way: one chunk hidden, the last event held back, nothing else."""

import json

import pytest

from metering.chunks import UNDECIDED_BYTES_MAX, TerminalHold, UsageChunkFilter
from metering.classify import Operation

FIRST = b'data: {"id":"c","choices":[],"prompt_filter_results":[]}\n\n'
TEXT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"\\"usage\\":{} hi"}}],"usage":null}\n\n'
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
USAGE_WITH_CHOICE = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\n'
USAGE_WITH_ERROR = b'data: {"error":{"code":1},"choices":[],"usage":{"prompt_tokens":1}}\n\n'
COMMENT = b": PROCESSING\n\n"
DONE = b"data: [DONE]\n\n"


def filtered(pieces: list[bytes]) -> bytes:
    chunk_filter = UsageChunkFilter()
    return b"".join(chunk_filter.feed(piece) for piece in pieces) + chunk_filter.flush()


def one_by_one(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_only_the_chunk_that_brings_nothing_but_the_usage_is_hidden(end: bytes) -> None:
    others = [FIRST, COMMENT, TEXT, USAGE_WITH_CHOICE, USAGE_WITH_ERROR, DONE]
    stream = b"".join([*others[:-1], USAGE, DONE]).replace(b"\n", end)
    wanted = b"".join(others).replace(b"\n", end)

    assert filtered([stream]) == wanted
    assert filtered(one_by_one(stream)) == wanted
    assert filtered([stream[:200], stream[200:]]) == wanted


def test_whole_events_pass_at_once() -> None:
    chunk_filter = UsageChunkFilter()

    for event in (FIRST, COMMENT, TEXT, DONE):
        assert chunk_filter.feed(event) == event
    assert chunk_filter.feed(USAGE) == b""
    assert chunk_filter.flush() == b""


def test_an_event_in_pieces_passes_as_soon_as_a_choice_is_seen() -> None:
    chunk_filter = UsageChunkFilter()
    cut = TEXT.index(b"delta")

    assert chunk_filter.feed(TEXT[:10]) == b""
    assert chunk_filter.feed(TEXT[10:cut]) == TEXT[:cut]
    assert chunk_filter.feed(TEXT[cut:-1]) == TEXT[cut:-1]
    assert chunk_filter.feed(TEXT[-1:]) == TEXT[-1:]
    assert chunk_filter.feed(USAGE) == b""


def test_an_event_that_does_not_tell_what_it_is_passes_when_it_grows_large() -> None:
    chunk_filter = UsageChunkFilter()
    head = b'data: {"id":"' + b"x" * UNDECIDED_BYTES_MAX

    assert chunk_filter.feed(head) == head
    assert chunk_filter.feed(b'"}\n\n') == b'"}\n\n'


def test_a_stream_that_breaks_off_gives_out_what_was_kept_back() -> None:
    assert filtered([FIRST, USAGE[:30]]) == FIRST + USAGE[:30]
    assert filtered([FIRST, USAGE.rstrip()]) == FIRST


def sse(kind: str, **content: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **content})}\n\n".encode()


ANTHROPIC = [sse("message_start"), sse("content_block_delta", text='"message_stop" error'), sse("message_delta"), sse("message_stop")]
RESPONSES = [sse("response.created"), sse("response.output_text.delta", delta="response.completed"), sse("response.completed", response={})]
CHAT = [COMMENT, TEXT, b'data: {"x":"[DONE]"}\n\n', DONE]


@pytest.mark.parametrize(
    ("operation", "events"),
    [(Operation.MESSAGES, ANTHROPIC), (Operation.RESPONSES, RESPONSES), (Operation.CHAT_COMPLETIONS, CHAT)],
    ids=["messages", "responses", "chat"],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_the_terminal_event_and_what_follows_is_held_back(operation: Operation, events: list[bytes], end: bytes) -> None:
    before, after = b"".join(events[:-1]).replace(b"\n", end), (events[-1] + b": bye\n\n").replace(b"\n", end)
    for pieces in ([before + after], one_by_one(before + after), [before[:40], before[40:] + after[:5], after[5:]]):
        hold = TerminalHold(operation)
        steps = [hold.feed(piece) for piece in pieces]
        now, held = b"".join(step[0] for step in steps), b"".join(step[1] for step in steps)

        assert hold.holding
        assert now.rstrip(b"\r\n") == before.rstrip(b"\r\n")
        assert now + held + hold.flush() == before + after


@pytest.mark.parametrize("operation", [Operation.MESSAGES, Operation.RESPONSES, Operation.CHAT_COMPLETIONS])
def test_whole_events_before_the_end_pass_at_once(operation: Operation) -> None:
    hold = TerminalHold(operation)

    for event in (COMMENT, TEXT, sse("ping")):
        assert hold.feed(event) == (event, b"")


def test_an_event_in_pieces_waits_only_for_its_name_or_type() -> None:
    named, typed, chat = TerminalHold(Operation.MESSAGES), TerminalHold(Operation.MESSAGES), TerminalHold(Operation.CHAT_COMPLETIONS)

    assert named.feed(b"event: content_bl") == (b"", b"")
    assert named.feed(b"ock_delta\nda") == (b"event: content_block_delta\nda", b"")
    assert typed.feed(b'data: {"type":"ping"') == (b'data: {"type":"ping"', b"")
    assert chat.feed(b"data: ") == (b"", b"")
    assert chat.feed(b'{"id"') == (b'data: {"id"', b"")


def test_an_error_event_is_terminal_too() -> None:
    assert TerminalHold(Operation.MESSAGES).feed(sse("error")) == (b"", sse("error"))
    assert TerminalHold(Operation.RESPONSES).feed(sse("response.failed")) == (b"", sse("response.failed"))


def test_a_terminal_event_that_never_ends_its_line_is_given_out_at_the_end() -> None:
    hold = TerminalHold(Operation.MESSAGES)

    assert hold.feed(b"event: message_stop\ndata: {}") == (b"", b"")
    assert hold.flush() == b"event: message_stop\ndata: {}"
