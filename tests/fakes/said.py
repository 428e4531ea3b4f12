"""What a gateway has said to a client, read by rules of this file alone: strictly, since what a gateway writes is in its own hands."""

import re
from dataclasses import dataclass

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9]) ([^\r\n\0]*)\Z")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([^\r\n\0]*)\Z")
_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_BALANCES = re.compile(rb'("balance_remaining":)(\d+)')


@dataclass(frozen=True)
class SaidAnswer:
    """One answer. Ids have become one constant, balances what was spent since the case began."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    whole: bool  # its end was its own
    closes: bool  # it says that the connection ends with it


class Unreadable(AssertionError):
    """The gateway has written what is no answer."""


def read_answers(data: bytes, *, closed: bool, balance: int) -> tuple[tuple[SaidAnswer, ...], bytes]:
    """Return the answers and what is left of the bytes, an answer whose head is not whole.

    An answer to HEAD shows itself: something else, or nothing, follows its head although it tells a length.

    Raises:
        Unreadable: the bytes are no sequence of answers.
    """
    answers: list[SaidAnswer] = []
    while data:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return tuple(answers), data
        line, *rest = data[:end].split(b"\r\n")
        first, found = _STATUS.match(line), [_FIELD.match(one) for one in rest]
        if first is None or None in found:
            raise Unreadable(data[: end + 4])
        fields = [(one[1].lower(), one[2]) for one in found if one is not None]
        body, data, whole = _read_body(int(first[2]), fields, data[end + 4 :], closed=closed, version=first[1])
        closes = any(name == b"connection" and b"close" in value.lower() for name, value in fields)
        answers.append(SaidAnswer(int(first[2]), _comparable(fields, balance), _relative(_ID.sub(b"ID", body), balance), whole, closes))
    return tuple(answers), b""


def _read_body(status: int, fields: list[tuple[bytes, bytes]], rest: bytes, *, closed: bool, version: bytes) -> tuple[bytes, bytes, bool]:
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1 or (codings and (codings != [b"chunked"] or version == b"0")):
        raise Unreadable(fields)
    if status < 200 or status in {204, 304}:
        return b"", rest, True
    if codings:
        return _read_chunks(rest)
    if not lengths:
        return rest, b"", closed
    if rest.startswith(b"HTTP/1.") or (not rest and int(lengths[0])):
        return b"", rest, True
    length = int(lengths[0])
    return rest[:length], rest[length:], len(rest) >= length


def _read_chunks(rest: bytes) -> tuple[bytes, bytes, bool]:
    body = b""
    while True:
        size, mark, after = rest.partition(b"\r\n")
        if not mark:
            return body, b"", False
        if not re.fullmatch(rb"[0-9a-f]+", size):
            raise Unreadable(rest)
        length = int(size, 16)
        if len(after) < length + 2:
            return body + after[:length], b"", False
        if after[length : length + 2] != b"\r\n":
            raise Unreadable(rest)
        body, rest = body + after[:length], after[length + 2 :]
        if not length:
            return body, rest, True


def _comparable(fields: list[tuple[bytes, bytes]], balance: int) -> tuple[tuple[bytes, bytes], ...]:
    """Return the fields in one order. Framing is judged by the body that it frames, closing by the connection that ends."""
    kept = [(name, _ID.sub(b"ID", value)) for name, value in fields if name not in {b"connection", b"content-length", b"transfer-encoding", b"date"}]
    return tuple(sorted((name, b"%d" % (balance - int(value)) if name == b"x-balance-remaining" else value) for name, value in kept))


def _relative(body: bytes, balance: int) -> bytes:
    return _BALANCES.sub(lambda found: found[1] + b"%d" % (balance - int(found[2])), body)
