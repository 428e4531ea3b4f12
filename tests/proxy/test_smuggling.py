"""The known ways to smuggle a request through: on both paths each is refused, or leaves as exactly one request that reads one way only.

What follows on the connection is a request for something that only a smuggled one would reach. It is never answered unless the bytes before it
were, by RFC 9112, a whole request and no more; where they were not, nothing of it arrives anywhere. Providers and control read as strictly as one can
(`careful_provider.read_strictly`): an ambiguity that reached them fails the test by itself.
"""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.agreement import describe, disagreement
from tests.fakes.books import Books
from tests.fakes.careful_provider import Answering, Received
from tests.fakes.two_paths import TOKEN, Outcome, TwoPaths, open_two_paths
from tests.fakes.wire_cases import Answer

BODY = b'{"model": "claude-sonnet-4-6", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}'
LINE = b"POST /proxy/%s/v1/messages HTTP/1.1\r\n" % TOKEN
HOST = b"Host: gateway\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: gateway\r\n\r\n"


def headed(*lines: bytes, body: bytes = b"", line: bytes = LINE) -> bytes:
    return line + b"".join(lines) + b"\r\n" + body


# Each is followed by SMUGGLED. None of them may be served, nor what follows.
REFUSED = {
    # Two lengths
    "CL.TE": headed(HOST, LENGTH, CHUNKED, body=CHUNKS),
    "CL.TE, cut at the zero": headed(HOST, b"Content-Length: 6\r\n", CHUNKED, body=b"0\r\n\r\nG"),
    "TE.CL": headed(HOST, CHUNKED, b"Content-Length: 4\r\n", body=CHUNKS),
    "CL.CL": headed(HOST, LENGTH, b"Content-Length: 0\r\n", body=BODY),
    "CL.CL, alike": headed(HOST, LENGTH, LENGTH, body=BODY),
    "CL list": headed(HOST, b"Content-Length: %d, %d\r\n" % (len(BODY), len(BODY)), body=BODY),
    "CL list of two": headed(HOST, b"Content-Length: 0, %d\r\n" % len(BODY), body=BODY),
    # Lengths that are none
    "CL with a plus": headed(HOST, b"Content-Length: +%d\r\n" % len(BODY), body=BODY),
    "CL with a minus": headed(HOST, b"Content-Length: -1\r\n", body=BODY),
    "CL with a zero before": headed(HOST, b"Content-Length: 0%d\r\n" % len(BODY), body=BODY),
    "CL in hex": headed(HOST, b"Content-Length: 0x%x\r\n" % len(BODY), body=BODY),
    "CL with a space": headed(HOST, b"Content-Length: 9 5\r\n", body=BODY),
    "CL with an underscore": headed(HOST, b"Content-Length: 9_5\r\n", body=BODY),
    "CL of other digits": headed(HOST, b"Content-Length: \xd9\xa5\r\n", body=BODY),
    "CL beyond all": headed(HOST, b"Content-Length: 18446744073709551616\r\n", body=BODY),
    "CL name with a space": headed(HOST, b"Content-Length : %d\r\n" % len(BODY), body=BODY),
    "CL name after a space": headed(HOST, b" Content-Length: %d\r\n" % len(BODY), body=BODY),
    # Codings in disguise
    "TE.TE": headed(HOST, CHUNKED, CHUNKED, body=CHUNKS),
    "TE.TE, one unknown": headed(HOST, CHUNKED, b"Transfer-Encoding: cow\r\n", body=CHUNKS),
    "TE unknown": headed(HOST, b"Transfer-Encoding: xchunked\r\n", LENGTH, body=BODY),
    "TE not last": headed(HOST, b"Transfer-Encoding: chunked, identity\r\n", body=CHUNKS),
    "TE identity": headed(HOST, b"Transfer-Encoding: identity\r\n", LENGTH, body=BODY),
    "TE gzip": headed(HOST, b"Transfer-Encoding: gzip, chunked\r\n", body=CHUNKS),
    "TE twice in one": headed(HOST, b"Transfer-Encoding: chunked, chunked\r\n", body=CHUNKS),
    "TE name with a space": headed(HOST, b"Transfer-Encoding : chunked\r\n", LENGTH, body=BODY),
    "TE name with a tab": headed(HOST, b"Transfer-Encoding\t: chunked\r\n", LENGTH, body=BODY),
    "TE with a vertical tab": headed(HOST, b"Transfer-Encoding: \x0bchunked\r\n", LENGTH, body=BODY),
    "TE quoted": headed(HOST, b'Transfer-Encoding: "chunked"\r\n', body=CHUNKS),
    "TE with a comma before": headed(HOST, b"Transfer-Encoding: ,chunked\r\n", body=CHUNKS),
    "TE with a parameter": headed(HOST, b"Transfer-Encoding: chunked;q=1\r\n", body=CHUNKS),
    "TE with a NUL": headed(HOST, b"Transfer-Encoding: chunked\0\r\n", body=CHUNKS),
    "TE folded": headed(HOST, b"Transfer-Encoding:\r\n chunked\r\n", LENGTH, body=BODY),
    "TE behind a lone LF": headed(HOST, b"X: y\nTransfer-Encoding: chunked\r\n", LENGTH, body=BODY),
    "TE behind a lone CR": headed(HOST, b"X: y\rTransfer-Encoding: chunked\r\n", LENGTH, body=BODY),
    "TE of a Kelvin sign": headed(HOST, b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n", body=CHUNKS),
    "TE over HTTP/1.0": headed(HOST, CHUNKED, body=CHUNKS, line=LINE.replace(b"1.1", b"1.0")),
    # Lines
    "fold": headed(HOST, b"X: y\r\n z\r\n", LENGTH, body=BODY),
    "fold by tab": headed(HOST, b"X: y\r\n\tz\r\n", LENGTH, body=BODY),
    "fold at once": headed(b" X: y\r\n", HOST, LENGTH, body=BODY),
    "NUL in a value": headed(HOST, b"X: \0\r\n", LENGTH, body=BODY),
    "NUL in a name": headed(HOST, b"X\0: y\r\n", LENGTH, body=BODY),
    "name with a space": headed(HOST, b"X Y: z\r\n", LENGTH, body=BODY),
    "no name": headed(HOST, b": z\r\n", LENGTH, body=BODY),
    "no colon": headed(HOST, b"GET / HTTP/1.1\r\n", LENGTH, body=BODY),
    "lone CR in a value": headed(HOST, b"X: y\rz\r\n", LENGTH, body=BODY),
    "two hosts": headed(HOST, b"Host: other\r\n", LENGTH, body=BODY),
    "two hosts alike": headed(HOST, HOST, LENGTH, body=BODY),
    # The first line
    "no version": headed(HOST, LENGTH, body=BODY, line=b"POST /proxy/%s/v1/messages\r\n" % TOKEN),
    "a version that is none": headed(HOST, LENGTH, body=BODY, line=LINE.replace(b"1.1", b"1.2")),
    "a target with a space": headed(HOST, LENGTH, body=BODY, line=LINE.replace(b"/v1", b" /v1")),
    "a target with a lone CR": headed(HOST, LENGTH, body=BODY, line=LINE.replace(b"/v1", b"/v1\rX")),
    "a target with a NUL": headed(HOST, LENGTH, body=BODY, line=LINE.replace(b"/v1", b"/v1\0")),
    "an absolute target": headed(HOST, LENGTH, body=BODY, line=LINE.replace(b" /proxy", b" http://gateway/proxy")),
    "another's absolute target": headed(HOST, LENGTH, body=BODY, line=LINE.replace(b" /proxy", b" http://other/proxy")),
    "a method in small letters": headed(HOST, LENGTH, body=BODY, line=LINE.replace(b"POST", b"post")),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": headed(HOST, line=b"CONNECT gateway:80 HTTP/1.1\r\n"),
    # Chunks
    "chunk size too large": headed(HOST, CHUNKED, body=b"10000000000000000%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "chunk size with a minus": headed(HOST, CHUNKED, body=b"-%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "chunk size with 0x": headed(HOST, CHUNKED, body=b"0x%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "chunk size with a plus": headed(HOST, CHUNKED, body=b"+%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "chunk size with an underscore": headed(HOST, CHUNKED, body=b"5_f\r\n%s\r\n0\r\n\r\n" % BODY),
    "no chunk size": headed(HOST, CHUNKED, body=b"\r\n%s\r\n0\r\n\r\n" % BODY),
    "chunk size ends in a lone LF": headed(HOST, CHUNKED, body=b"%x\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "chunk extension with a lone LF": headed(HOST, CHUNKED, body=b"%x;a\nb\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "chunk longer than it says": headed(HOST, CHUNKED, body=b"%x\r\n%sXX\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "chunk ends in a lone LF": headed(HOST, CHUNKED, body=b"%x\r\n%s\n0\r\n\r\n" % (len(BODY), BODY)),
    "trailer that is none": headed(HOST, CHUNKED, body=b"%x\r\n%s\r\n0\r\nno colon\r\n\r\n" % (len(BODY), BODY)),
}

# Each ends where RFC 9112 says: it is answered once, by whatever status, and so is what follows.
ENDS = {
    "0.CL": headed(HOST),
    "GET with a body": headed(HOST, b"Content-Length: 5\r\n", body=b"hello", line=b"GET /proxy/%s/v1/models HTTP/1.1\r\n" % TOKEN),
    "GET with chunks": headed(HOST, CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n", line=b"GET /proxy/%s/v1/models HTTP/1.1\r\n" % TOKEN),
    "HEAD with a body": headed(HOST, b"Content-Length: 5\r\n", body=b"hello", line=b"HEAD /health HTTP/1.1\r\n"),
    "a body that looks like a request": headed(HOST, b"Content-Length: %d\r\n" % len(SMUGGLED), body=SMUGGLED),
    "a chunk that looks like a request": headed(HOST, CHUNKED, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
    "a chunk extension that looks like a request": headed(HOST, CHUNKED, body=b"%x;GET /smuggled HTTP/1.1\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "a trailer that looks like framing": headed(HOST, CHUNKED, body=b"%x\r\n%s\r\n0\r\nContent-Length: 40\r\n\r\n" % (len(BODY), BODY)),
    "a chunk size with zeros before": headed(HOST, CHUNKED, body=b"000%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "chunked in other letters": headed(HOST, b"tRANSFER-eNCODING: Chunked\r\n", body=CHUNKS),
    "an underscore for a dash": headed(HOST, b"Content_Length: 0\r\n", LENGTH, body=BODY),
    "a length that concerns the connection": headed(HOST, LENGTH, b"Connection: content-length\r\n", body=BODY),
    "an upgrade to h2c": headed(
        HOST, LENGTH, b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n", body=BODY
    ),
    "an empty line before": b"\r\n" + headed(HOST, LENGTH, body=BODY),
    "lone LFs for all line ends": headed(HOST, LENGTH, body=BODY).replace(b"\r\n", b"\n"),
    "Expect": headed(HOST, LENGTH, b"Expect: 100-continue\r\n", body=BODY),
    "Expect something else": headed(HOST, LENGTH, b"Expect: 100-continue, x\r\n", body=BODY),
    "Expect with a fold of letters": headed(HOST, LENGTH, b"eXPECT: 100-Continue\r\n", body=BODY),
}


@pytest.fixture(scope="module")
def cuts() -> list[list[int]]:
    """Whole, and in pieces as a network may cut them."""
    return [[], [1, 40, 90, 110, 130, 150]]


@pytest.fixture
async def paths(books: Books, proxy_urls: tuple[str, str]) -> AsyncIterator[TwoPaths]:
    async with open_two_paths(books, proxy_urls) as opened:
        yield opened


def reply(_: int, received: Received) -> Answering:
    return Answer().to(received)


async def run(paths: TwoPaths, said: bytes, cuts: list[int]) -> list[Outcome]:
    lane, stock = [await path.run(said + SMUGGLED, cuts=cuts, script=reply, control=reply) for path in (paths.lane, paths.stock)]
    if fault := disagreement(lane, stock):
        pytest.fail(f"{said!r} {cuts}: {fault}\n{describe(lane, stock)}")
    return [lane, stock]


async def test_what_could_be_read_in_two_ways_is_refused_with_all_that_follows(paths: TwoPaths, cuts: list[list[int]]) -> None:
    wrong = []
    for name, said in REFUSED.items():
        for where in cuts:
            for outcome in await run(paths, said, where):
                answers = [answer for answer in outcome.answers if answer.status >= 200]
                # None where a body is still waited for that never comes; the connection is closed, or about to be once nobody sends any more.
                refused = len(answers) <= 1 and all(400 <= answer.status < 500 and (answer.closes or outcome.closed) for answer in answers)
                if not refused or outcome.asked or outcome.control or outcome.charges:
                    wrong.append(
                        f"{name} {where}: {[(answer.status, answer.closes) for answer in outcome.answers]} {outcome.closed} {outcome.asked} {outcome.control}"
                    )
    if wrong:
        pytest.fail("\n".join(wrong))


async def test_what_ends_in_one_place_is_one_request_and_what_follows_another(paths: TwoPaths, cuts: list[list[int]]) -> None:
    wrong = []
    for name, said in ENDS.items():
        for where in cuts:
            for outcome in await run(paths, said, where):
                answers = [answer for answer in outcome.answers if answer.status >= 200]
                smuggled = [one for one in outcome.control if one.target == "/smuggled"]
                # Where it was refused before its body had come, the connection ends with it.
                if len(answers) != 2 - outcome.closed or len(smuggled) != 1 - outcome.closed or len(outcome.asked) > 1:
                    wrong.append(f"{name} {where}: {outcome}")
    if wrong:
        pytest.fail("\n".join(wrong))
