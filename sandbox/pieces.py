"""The body of a reply as pieces to be written: the script's damage done to it, no socket in sight."""

import random
import zlib
from collections.abc import Iterator

import brotli  # type: ignore[import-untyped]  # ships no types
import zstandard

from sandbox.replies import Reply
from sandbox.script import WireScript

PIECE_BYTES_DEFAULT = 64
COMMENT = b": sandbox\n\n"


def prepare_pieces(reply: Reply, wire: WireScript) -> list[bytes]:
    """Return what is written of a body, piece by piece. `cut_after` counts events, `cut_bytes` bytes as they travel."""
    pieces = _frame_events(reply, wire) if reply.streamed else list(reply.pieces)
    if wire.bad in {"json", "utf8"}:
        pieces = _spoil(pieces, wire.bad, streamed=reply.streamed)
    pieces = pieces[: wire.cut_after]
    if wire.encoding:
        pieces = list(_encode(pieces, wire.encoding))
    pieces = _recut(pieces, wire)
    return pieces if wire.cut_bytes is None else _first_bytes(pieces, wire.cut_bytes)


def _frame_events(reply: Reply, wire: WireScript) -> list[bytes]:
    pieces = list(reply.pieces)
    if wire.no_terminal and reply.closing:
        pieces = pieces[: -reply.closing]
    pieces = pieces[: wire.end_after]
    if wire.comments:
        pieces = [COMMENT + piece for piece in pieces]
    return [piece.replace(b"\n", b"\r\n") for piece in pieces] if wire.crlf else pieces


def _spoil(pieces: list[bytes], how: str, *, streamed: bool) -> list[bytes]:
    """Break the middle of a stream, or the end of a plain body."""
    if not pieces:
        return pieces
    middle = len(pieces) // 2
    if how == "utf8":
        head, mark, tail = pieces[middle].rpartition(b'":"')
        return [*pieces[:middle], head + mark + b"\xff\xfe" + tail, *pieces[middle + 1 :]]
    if streamed:
        return [*pieces[:middle], b'data: {"type":"sandbox_broken","text":\n\n', *pieces[middle:]]
    return [*pieces[:-1], pieces[-1][:-9]]


def _encode(pieces: list[bytes], encoding: str) -> Iterator[bytes]:
    """Compress so that every piece can be read as soon as it arrives, as providers do."""
    if encoding in {"gzip", "deflate"}:
        flate = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
        yield from (flate.compress(piece) + flate.flush(zlib.Z_SYNC_FLUSH) for piece in pieces)
        yield flate.flush()
    elif encoding == "br":
        squeezer = brotli.Compressor()
        yield from (squeezer.process(piece) + squeezer.flush() for piece in pieces)
        yield squeezer.finish()
    else:
        frame = zstandard.ZstdCompressor().compressobj()
        yield from (frame.compress(piece) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for piece in pieces)
        yield frame.flush()


def _recut(pieces: list[bytes], wire: WireScript) -> list[bytes]:
    if wire.together:
        return [b"".join(pieces)]
    if not wire.chunk_bytes and wire.seed is None:
        return pieces
    body, largest = b"".join(pieces), wire.chunk_bytes or PIECE_BYTES_DEFAULT
    chance = random.Random(wire.seed)  # noqa: S311 (repeatable places to cut at, no secret)
    cut: list[bytes] = []
    while body:
        size = largest if wire.seed is None else chance.randint(1, largest)
        cut.append(body[:size])
        body = body[size:]
    return cut


def _first_bytes(pieces: list[bytes], limit: int) -> list[bytes]:
    kept: list[bytes] = []
    for piece in pieces:
        kept.append(piece[:limit])
        limit -= len(kept[-1])
        if limit <= 0:
            break
    return kept
