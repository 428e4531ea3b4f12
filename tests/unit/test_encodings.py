"""Compressed bodies are undone within a bound, or refused."""

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from metering.classify import RequestRefused
from metering.encodings import decode_body

PLAIN = b'{"model":"m"}' * 500


def _raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


COMPRESSORS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", _raw_deflate),
    ("br", brotli.compress),
    ("zstd", zstandard.compress),
]


def refused(body: bytes, encoding: str, *, bytes_max: int = 1 << 20) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        decode_body(body, encoding, bytes_max=bytes_max)
    return caught.value


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSORS)
def test_a_compressed_body_is_undone_up_to_exactly_the_bound(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    assert decode_body(compress(PLAIN), f" {encoding.upper()} ", bytes_max=len(PLAIN)) == PLAIN
    assert refused(compress(PLAIN), encoding, bytes_max=len(PLAIN) - 1).status == 413


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSORS)
def test_a_small_body_that_unpacks_to_very_much_is_refused(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    error = refused(compress(bytes(50_000_000)), encoding)

    assert (error.status, error.code, error.details) == (413, "request_too_large", {"bytes_max": 1 << 20})


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSORS)
def test_a_broken_cut_or_lengthened_body_is_refused(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    whole = compress(PLAIN)

    for body in (b"", b"no such bytes", whole[:-2], whole[: len(whole) // 2], whole + b"more", whole + whole):
        assert refused(body, encoding).status == 400


@pytest.mark.parametrize("encoding", ["compress", "gzip, br", "gzip,gzip", "utf-8"])
def test_an_unknown_encoding_or_several_are_refused(encoding: str) -> None:
    assert refused(PLAIN, encoding).status == 415


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_a_plain_body_stays_the_same_object_within_the_bound(encoding: str) -> None:
    assert decode_body(PLAIN, encoding, bytes_max=len(PLAIN)) is PLAIN
    assert refused(PLAIN, encoding, bytes_max=len(PLAIN) - 1).status == 413
