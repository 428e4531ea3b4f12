"""Server-sent events: whatever the line ends and wherever the cuts, the same events."""

import pytest

from metering.sse import Event, EventDecoder


def events_of(*chunks: bytes, event_bytes_max: int = 1000) -> list[Event]:
    decoder = EventDecoder(event_bytes_max=event_bytes_max)
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.close()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_has_a_name_and_its_data_lines_joined(end: bytes) -> None:
    stream = end.join([b"event: greeting", b"data: one", b"data: two", b"", b""])

    assert events_of(stream) == [Event(b"greeting", b"one\ntwo")]


def test_line_ends_may_be_mixed() -> None:
    assert events_of(b"event: a\rdata: 1\r\n\ndata: 2\n\r\ndata: 3\r\r") == [Event(b"a", b"1"), Event(b"", b"2"), Event(b"", b"3")]


@pytest.mark.parametrize("stream", ["data: é€\U0001f600\r\n\r\ndata: ü\r\n\r\n", "﻿data: x\n\ndata: y\n\n"])
def test_a_cut_inside_a_character_or_between_cr_and_lf_changes_nothing(stream: str) -> None:
    body = stream.encode()
    whole = events_of(body)

    assert len(whole) == 2
    for at in range(len(body)):
        assert events_of(body[:at], body[at:]) == whole
    assert events_of(*(body[at : at + 1] for at in range(len(body)))) == whole


def test_a_byte_order_mark_at_the_start_is_not_part_of_the_first_field() -> None:
    assert events_of(b"\xef\xbb\xbfdata: 1\n\n") == [Event(b"", b"1")]


def test_comments_and_events_without_data_say_nothing() -> None:
    assert events_of(b": PROCESSING\n\nevent: ping\n\nid: 7\nretry: 10\n\ndata: 1\n\n") == [Event(b"", b"1")]


def test_only_one_space_after_the_colon_is_taken_off() -> None:
    assert events_of(b"data:  two\n\ndata:none\n\ndata\n\n") == [Event(b"", b" two"), Event(b"", b"none"), Event(b"", b"")]


def test_a_line_separator_inside_json_ends_no_line() -> None:
    text = 'data: {"text":"a\u2028b\x85c"}\n\n'.encode()

    assert events_of(text) == [Event(b"", text[6:-2])]


def test_a_last_event_without_its_blank_line_is_read_at_the_end() -> None:
    assert events_of(b"data: 1\n\ndata: 2\n") == [Event(b"", b"1"), Event(b"", b"2")]
    assert events_of(b"data: 1\n\ndata: 2") == [Event(b"", b"1"), Event(b"", b"2")]


@pytest.mark.parametrize("pieces", [1, 2, 7, 300])
def test_an_event_beyond_the_maximum_is_left_out_and_the_next_one_read(pieces: int) -> None:
    stream = b"data: 1\n\n" + b"data: " + b"x" * 200 + b"\n\ndata: 2\n\n"
    size = -(-len(stream) // pieces)
    decoder = EventDecoder(event_bytes_max=100)

    events = [event for at in range(0, len(stream), size) for event in decoder.feed(stream[at : at + size])] + decoder.close()

    assert events == [Event(b"", b"1"), Event(b"", b"2")]
    assert decoder.overflowed


def test_an_event_that_never_ends_keeps_no_memory() -> None:
    decoder = EventDecoder(event_bytes_max=100)

    for _ in range(1000):
        assert decoder.feed(b"x" * 50) == []

    assert decoder.overflowed
    assert len(decoder._buffer._tail) <= 103
    assert decoder.close() == []
