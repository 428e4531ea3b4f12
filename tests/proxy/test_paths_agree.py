"""The fast lane does nothing that mitmproxy's own layers would not do: the same bytes through both, whatever they are.

Two gateways on the same books, one with the lane and one without, hear the same client and the same provider, both cut in the
same places. Compared are

- the requests that the providers and the control API received: method, path, the set of fields, body. Left out are ports, the api_token
  and ids, which are each gateway's own. Whoever receives them reads as strictly as one can: a request whose length two readers could take
  for different, a field that concerns one connection, a byte too many is a failure on either path, whatever the other does;
- what the client received: the statuses, the fields, the bodies byte by byte and whether each ended as a whole, and whether the connection was closed.
  Framing is judged by the body that it frames; ids are left out, balances are counted from the beginning of the case;
- what was charged, line by line, from the outbox, each at its right price;
- that no hold, no request and no connection is left, and that nothing was logged that must never happen.

Two differences are allowed, since in each the lane is the stricter. At the first answer that differs it has refused

- a head (400, 431): nothing after it was read, forwarded or charged, and the connection is closed;
- an answer (502, or an answer that visibly breaks off): the charge is not larger. llhttp reads an answer more strictly than mitmproxy does.

The other way is none allowed. LEVEL5_FUZZ_EXAMPLES asks for more examples, and for others each time.
"""

import os
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.fakes.agreement import describe, disagreement
from tests.fakes.books import Books
from tests.fakes.careful_provider import Script
from tests.fakes.two_paths import TwoPaths, open_two_paths
from tests.fakes.wire_cases import CUTS, ODD_ANSWERS, REQUESTS, SOUND_ANSWERS, Answer, odd_request

ASKED_FOR = int(os.environ.get("LEVEL5_FUZZ_EXAMPLES", "0"))
SOUND = REQUESTS.map(lambda request: request.data)
bounded = settings(
    max_examples=ASKED_FOR or 60, derandomize=not ASKED_FOR, database=None, deadline=None, print_blob=True,
    phases=[Phase.generate],  # to make a case smaller takes minutes, and says little more than the case
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)  # fmt: skip
pytestmark = pytest.mark.timeout(ASKED_FOR + 120)


@pytest.fixture
async def paths(books: Books, proxy_urls: tuple[str, str]) -> AsyncIterator[TwoPaths]:
    """Both gateways, for all examples of a test."""
    async with open_two_paths(books, proxy_urls) as opened:
        yield opened


async def agree(paths: TwoPaths, said: bytes, *, cuts: Sequence[int], answers: Sequence[Answer]) -> None:
    script: Script = lambda number, received: answers[number % len(answers)].to(received)  # noqa: E731
    control: Script = lambda _, received: Answer().to(received)  # noqa: E731
    lane = await paths.lane.run(said, cuts=cuts, script=script, control=control)
    stock = await paths.stock.run(said, cuts=cuts, script=script, control=control)
    if fault := disagreement(lane, stock):
        note(f"{said!r}\n{describe(lane, stock)}")
        pytest.fail(fault)


@bounded
@given(requests=st.lists(SOUND, min_size=1, max_size=3), cuts=CUTS, answers=st.lists(SOUND_ANSWERS, min_size=1, max_size=3))
async def test_sound_requests_and_answers_are_the_same_on_both_paths(paths: TwoPaths, requests: list[bytes], cuts: list[int], answers: list[Answer]) -> None:
    await agree(paths, b"".join(requests), cuts=cuts, answers=answers)


@bounded
@given(before=st.lists(SOUND, max_size=1), odd=odd_request(), after=st.lists(SOUND, max_size=1), cuts=CUTS)
async def test_no_request_is_forwarded_that_the_stock_path_refuses(
    paths: TwoPaths, before: list[bytes], odd: bytes, after: list[bytes], cuts: list[int]
) -> None:
    await agree(paths, b"".join([*before, odd, *after]), cuts=cuts, answers=[Answer()])


@bounded
@given(request=SOUND, cuts=CUTS, answer=ODD_ANSWERS)
async def test_no_answer_is_relayed_or_charged_that_the_stock_path_refuses(paths: TwoPaths, request: bytes, cuts: list[int], answer: Answer) -> None:
    await agree(paths, request, cuts=cuts, answers=[answer])
