"""Counters of the gateway's traffic as values: their text, their sums, what a histogram says, and whose client it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.http import Headers

from addons.checked_headers import CheckedHeaders
from addons.client_families import family_of, family_of_agent
from ledger.activity_values import LATENCY_BOUNDS_MS, SIZE, Histogram, Outcome, Tally, text_of

counters = st.lists(st.integers(0, 10**12), min_size=SIZE, max_size=SIZE)


@given(counters, counters)
def test_counters_survive_their_text_and_add_up(one: list[int], other: list[int]) -> None:
    tally = Tally.from_text(text_of(one)) + Tally.from_text(text_of(other))

    assert tally.counters == tuple(map(sum, zip(one, other, strict=True)))
    assert tally.requests == sum(tally.counters[: len(Outcome)])
    assert tally.errors == tally.requests - tally.of(Outcome.OK) - tally.of(Outcome.CLIENT_LEFT)


@given(st.text(max_size=80))
def test_a_text_that_is_none_of_ours_counts_for_nothing_or_for_what_it_says(text: str) -> None:
    assert len(Tally.from_text(text).counters) == SIZE


def test_a_usual_hour_is_a_short_text() -> None:
    text = text_of([120, 0, 3, *([0] * (SIZE - 13)), 7, 20, 60, 30, 3, 0, 0, 0, 0, 0])

    assert len(text) < 64  # a longer one would cost Redis its compact form


def test_a_quantile_lies_within_its_bucket_and_above_the_last_bound_at_it() -> None:
    places = len(LATENCY_BOUNDS_MS) + 1
    half = Histogram((0, 10, 10) + (0,) * (places - 3))
    slow = Histogram((0,) * (places - 1) + (5,))

    assert [half.quantile_ms(percent) for percent in (10, 50, 75, 100)] == [60, 100, 150, 200]
    assert slow.quantile_ms(50) == LATENCY_BOUNDS_MS[-1]
    assert Histogram((0,) * places).quantile_ms(95) is None


@pytest.mark.parametrize(
    ("agent", "family"),
    [
        ("claude-cli/2.0.14 (external, cli)", "claude-code"), ("codex_cli_rs/0.46.0 (Debian 12; x86_64)", "codex"), ("opencode/0.15.8", "opencode"),
        ("AsyncOpenAI/Python 2.3.0", "openai-python"), ("OpenAI/JS 6.1.0", "openai-js"), ("Anthropic/Python 0.71.0", "anthropic-python"),
        ("Anthropic/JS 0.67.0", "anthropic-js"), ("curl/8.14.1", "curl"), ("python-httpx/0.28.1", "python-httpx"),
        ("ai-sdk/openai/2 runtime/node.js/22", "ai-sdk"),
        ("<script>alert(1)</script>", "other"), ("", "unnamed"), ("\xff" * 500, "other"),
    ],
)  # fmt: skip
def test_a_client_is_known_by_what_it_says_of_itself(agent: str, family: str) -> None:
    fields = [(b"Host", b"x"), (b"User-Agent", agent.encode("latin-1"))]

    assert family_of(Headers(fields)) == family_of(CheckedHeaders(fields, findings={})) == family
    assert family_of_agent(agent.encode("latin-1")) == family


def test_a_client_that_says_nothing_is_unnamed() -> None:
    assert family_of(Headers([(b"Host", b"x")])) == "unnamed"
