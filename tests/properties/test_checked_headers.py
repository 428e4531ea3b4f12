"""Headers whose fields were checked before say what mitmproxy's own headers say, whatever is asked and changed."""

from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from addons.checked_headers import CheckedHeaders

NAMES = st.sampled_from(["Host", "host", "Content-Length", "content-length", "X-Thing", "x-thing", "Accept"])
VALUES = st.binary(max_size=8)
FIELDS = st.lists(st.tuples(NAMES.map(str.encode), VALUES), max_size=8)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("set"), NAMES, st.text("abc", max_size=3)),
        st.tuples(st.just("add"), NAMES, st.text("abc", max_size=3)),
        st.tuples(st.just("pop"), NAMES, st.just("")),
        st.tuples(st.just("fields"), NAMES, st.text("abc", max_size=3)),
    ),
    max_size=5,
)


def change(headers: http.Headers, what: str, name: str, value: str) -> None:
    if what == "set":
        headers[name] = value
    elif what == "add":
        headers.add(name, value)
    elif what == "pop":
        headers.pop(name, None)
    else:
        headers.fields = (*headers.fields[1:], (name.encode(), value.encode()))


@given(fields=FIELDS, changes=CHANGES, name=NAMES)
def test_every_look_finds_what_mitmproxy_finds(fields: list[tuple[bytes, bytes]], changes: list[tuple[str, str, str]], name: str) -> None:
    ours, theirs = CheckedHeaders(fields), http.Headers(fields)

    for step in [None, *changes]:
        if step is not None:
            change(ours, *step)
            change(theirs, *step)
        assert ours.fields == theirs.fields
        assert (ours.get(name), ours.get(name, "none"), name in ours) == (theirs.get(name), theirs.get(name, "none"), name in theirs)
        assert ours.get_all(name) == theirs.get_all(name)
        assert list(ours.items(multi=True)) == list(theirs.items(multi=True))
        assert (len(ours), bytes(ours), ours == theirs) == (len(theirs), bytes(theirs), True)
