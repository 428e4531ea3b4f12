"""Scripts: reading them, finding them in a request, and what they do to a body."""

import zlib

import brotli
import pytest
import zstandard

from sandbox.pieces import prepare_pieces
from sandbox.replies import EVENT_STREAM, Reply
from sandbox.script import ScriptError, WireScript, find_script, last_user_text, parse_script

EVENTS = (b'data: {"a":"one"}\n\n', b'data: {"a":"two"}\n\n', b"data: [DONE]\n\n")
STREAM = Reply(headers=(("content-type", EVENT_STREAM),), pieces=EVENTS, closing=1)
PLAIN = Reply(headers=(("content-type", "application/json"),), pieces=(b'{"text":"plain answer"}',))


def test_a_script_is_words_of_key_and_value() -> None:
    script = parse_script("words=3; text=two%20words trailers cut_after=0")

    assert script.answer.words == 3
    assert script.answer.text == "two words"
    assert script.wire.trailers
    assert script.wire.cut_after == 0


def test_an_empty_script_asks_for_nothing() -> None:
    assert parse_script("") == parse_script("  ;")


@pytest.mark.parametrize(
    "line",
    [
        "colour=red",
        "words=many",
        "words=-1",
        "usage=lavish",
        "words=99999999",
        "delay_ms=9999999",
        "encoding=rot13",
        "iterations=message",
        "arguments={",
        "cost=much",
    ],
)
def test_a_script_that_cannot_be_read_is_refused(line: str) -> None:
    with pytest.raises(ScriptError):
        parse_script(line)


def test_only_a_content_length_may_be_too_small() -> None:
    assert parse_script("length=-5").wire.length == -5


def test_the_header_wins_over_the_body() -> None:
    body = {"metadata": {"sandbox": "words=1"}}

    assert find_script({"x-sandbox-script": "words=2"}, body) == "words=2"
    assert find_script({}, body) == "words=1"


def test_the_first_line_of_the_last_user_text_may_hold_a_script() -> None:
    said = {
        "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "sandbox: words=4\nthanks"}]
    }

    assert find_script({}, said).strip() == "words=4"
    assert find_script({}, {"messages": said["messages"][:2]}) == ""


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "last"}]}]},
        {"input": "last"},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "last"}]}]},
        {"input": ["first", "last"]},
    ],
)
def test_the_last_user_text_is_found_in_every_dialect(body: dict[str, object]) -> None:
    assert last_user_text(body) == "last"


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": 5}, {"messages": [5]}, {"input": [{"role": "user", "content": 5}]}])
def test_a_body_without_texts_has_no_script(body: dict[str, object]) -> None:
    assert find_script({}, body) == ""


def test_pieces_are_events_unless_told_otherwise() -> None:
    assert prepare_pieces(STREAM, WireScript()) == list(EVENTS)


def test_a_polite_end_can_leave_out_the_terminal_event_or_more() -> None:
    assert prepare_pieces(STREAM, WireScript(no_terminal=True)) == list(EVENTS[:2])
    assert prepare_pieces(STREAM, WireScript(end_after=1)) == list(EVENTS[:1])


def test_a_body_can_be_cut_after_events_and_after_bytes() -> None:
    assert prepare_pieces(STREAM, WireScript(cut_after=2)) == list(EVENTS[:2])
    assert b"".join(prepare_pieces(STREAM, WireScript(cut_bytes=20))) == b"".join(EVENTS)[:20]


@pytest.mark.parametrize("wire", [WireScript(seed=7), WireScript(seed=7, chunk_bytes=3), WireScript(chunk_bytes=5), WireScript(together=True)])
def test_recutting_changes_no_byte(wire: WireScript) -> None:
    assert b"".join(prepare_pieces(STREAM, wire)) == b"".join(EVENTS)


def test_pseudo_random_cuts_are_repeatable() -> None:
    first, again, other = (prepare_pieces(STREAM, WireScript(seed=seed, chunk_bytes=9)) for seed in (1, 1, 2))

    assert first == again != other


def test_every_encoded_piece_can_be_read_when_it_arrives() -> None:
    expected = b"".join(EVENTS)
    gzip = zlib.decompressobj(wbits=31)
    pieces = prepare_pieces(STREAM, WireScript(encoding="gzip"))

    assert gzip.decompress(pieces[0]) == EVENTS[0]
    assert b"".join(map(gzip.decompress, pieces[1:])) == b"".join(EVENTS[1:])
    assert zlib.decompress(b"".join(prepare_pieces(STREAM, WireScript(encoding="deflate")))) == expected
    assert brotli.decompress(b"".join(prepare_pieces(STREAM, WireScript(encoding="br")))) == expected
    assert zstandard.ZstdDecompressor().decompressobj().decompress(b"".join(prepare_pieces(STREAM, WireScript(encoding="zstd")))) == expected


def test_broken_bytes_stand_in_the_middle_of_a_stream_and_at_the_end_of_a_plain_body() -> None:
    assert b"\xff\xfe" in prepare_pieces(STREAM, WireScript(bad="utf8"))[1]
    assert b"sandbox_broken" in prepare_pieces(STREAM, WireScript(bad="json"))[1]
    assert prepare_pieces(PLAIN, WireScript(bad="json")) == [b'{"text":"plain']
    assert prepare_pieces(PLAIN, WireScript(bad="utf8")) == [b'{"text":"\xff\xfeplain answer"}']


def test_line_ends_and_comments_can_be_added() -> None:
    assert prepare_pieces(STREAM, WireScript(crlf=True))[2] == b"data: [DONE]\r\n\r\n"
    assert prepare_pieces(STREAM, WireScript(comments=True))[2] == b": sandbox\n\ndata: [DONE]\n\n"
