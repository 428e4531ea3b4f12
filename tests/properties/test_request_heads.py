"""A head that was read before, but for its length, is read as if it were new."""

from hypothesis import given
from hypothesis import strategies as st

from addons import lane_heads
from addons.lane_heads import NotHere, read_request_head

NAMES = st.sampled_from(
    [b"Content-Length", b"content-length", b"CONTENT-LENGTH", b"Content-Length ", b"X-Content-Length", b"Host", b"Accept", b"Transfer-Encoding"]
)
FIGURES = st.sampled_from(
    [b"0", b"5", b"12", b"00", b"05", b"+5", b"-1", b"5 ", b" 5", b"", b"5, 5", b"5x", b"0x5", b"9" * 15, b"9" * 16, b"\t7\t", b"example.com"]
)
HEADS = st.builds(
    lambda target, fields: b"POST %s HTTP/1.1\r\nHost: example.com\r\n%s\r\n" % (target, b"".join(b"%s: %s\r\n" % field for field in fields)),
    st.sampled_from([b"/v1/messages", b"/v1/messages?a=Content-Length: 5"]),
    st.lists(st.tuples(NAMES, FIGURES), max_size=3),
)


def read(head: bytes) -> object:
    """Return all that is read of a head."""
    try:
        request, length, closes = read_request_head(head)
    except NotHere:
        return NotHere
    return request.data.method, request.data.path, request.headers.fields, length, closes


@given(heads=st.lists(HEADS, min_size=2, max_size=8))
def test_what_was_read_before_changes_nothing(heads: list[bytes]) -> None:
    afresh = []
    for head in heads:
        lane_heads._known_shape.cache_clear()
        afresh.append(read(head))

    lane_heads._known_shape.cache_clear()

    assert [read(head) for head in heads] == afresh
    assert [read(head) for head in heads] == afresh


def test_two_lengths_are_refused_whichever_was_read_before() -> None:
    read_request_head(b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")

    assert read(b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 7\r\n\r\n") is NotHere


def test_only_the_length_may_differ_between_heads_that_share_their_reading() -> None:
    first, length_of_first, _ = read_request_head(b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    second, length_of_second, _ = read_request_head(b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")

    first.headers["x-mine"] = "1"

    assert (length_of_first, length_of_second) == (5, 12)
    assert second.headers["content-length"] == "12"
    assert "x-mine" not in second.headers
    assert "x-mine" not in read_request_head(b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")[0].headers
