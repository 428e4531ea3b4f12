"""Content encodings of request bodies, undone within a bound.

The one module of `metering` that needs more than the standard library: zstd and brotli exist only
as packages on Python 3.12 and 3.13. It is as pure as the rest: bytes in, bytes out.
"""

import io
import zlib

import brotli  # type: ignore[import-untyped]  # ships neither stubs nor a py.typed mark
import zstandard

from metering.classify import RequestRefused

_STEP_BYTES = 256 * 1024
_ZSTD_WINDOW_BYTES_MAX = 32 * 1024 * 1024  # the decompressor's own memory is bounded too


class _TooLarge(Exception):
    """The plain body would be longer than allowed."""


class _Broken(Exception):
    """The bytes are not one whole body in the encoding named."""


def decode_body(body: bytes, content_encoding: str, *, bytes_max: int) -> bytes:
    """Return the plain bytes of a body; never makes more than `bytes_max` and one step of them.

    Raises:
        RequestRefused: 415 for an unknown encoding or several, 400 for broken, truncated or
            trailing bytes, 413 when the plain body is longer than `bytes_max`.
    """
    name = content_encoding.strip().lower()
    if name in {"", "identity"}:
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
        return body
    decoder = _DECODERS.get(name)
    if decoder is None:
        message = f"The content-encoding {name[:40]!r} is not understood; send one of gzip, deflate, br, zstd, or none."
        raise RequestRefused(415, "unsupported_encoding", message=message)
    try:
        return decoder(body, bytes_max)
    except _TooLarge:
        raise _too_large(bytes_max) from None
    except (_Broken, zlib.error, zstandard.ZstdError, brotli.error):
        raise RequestRefused(400, "invalid_encoding", message=f"The body is not valid {name}; it is broken, cut short, or something follows it.") from None


def _too_large(bytes_max: int) -> RequestRefused:
    message = f"The request body is larger than {bytes_max} bytes once decompressed."
    return RequestRefused(413, "request_too_large", message=message, details={"bytes_max": bytes_max})


def _inflate(body: bytes, bytes_max: int, *, wbits: int) -> bytes:
    decoder = zlib.decompressobj(wbits)
    plain = decoder.decompress(body, bytes_max + 1)
    if len(plain) > bytes_max:
        raise _TooLarge
    if not decoder.eof or decoder.unused_data:
        raise _Broken
    return plain


def _gunzip(body: bytes, bytes_max: int) -> bytes:
    return _inflate(body, bytes_max, wbits=16 + zlib.MAX_WBITS)


def _deflate(body: bytes, bytes_max: int) -> bytes:
    """Undo `deflate`, which some clients send with the zlib head that the standard asks for and some without."""
    try:
        return _inflate(body, bytes_max, wbits=zlib.MAX_WBITS)
    except zlib.error:
        return _inflate(body, bytes_max, wbits=-zlib.MAX_WBITS)


def _unbrotli(body: bytes, bytes_max: int) -> bytes:
    decoder = brotli.Decompressor()
    pieces, total, data = [], 0, body
    while not decoder.is_finished():
        piece = decoder.process(data, output_buffer_limit=_STEP_BYTES)
        if not piece and not data:
            raise _Broken  # asks for more than there is
        pieces.append(piece)
        total += len(piece)
        if total > bytes_max:
            raise _TooLarge
        data = b""
    return b"".join(pieces)


def _unzstd(body: bytes, bytes_max: int) -> bytes:
    """Measure first with a bounded reader, then decode in one go, which alone tells whether the frame is whole."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    total = 0
    with decompressor.stream_reader(io.BytesIO(body), read_across_frames=False) as reader:
        while step := reader.read(_STEP_BYTES):
            total += len(step)
            if total > bytes_max:
                raise _TooLarge
    decoder = decompressor.decompressobj()
    plain = decoder.decompress(body)
    if not decoder.eof or decoder.unused_data:
        raise _Broken
    return plain


_DECODERS = {"gzip": _gunzip, "x-gzip": _gunzip, "deflate": _deflate, "br": _unbrotli, "zstd": _unzstd}
