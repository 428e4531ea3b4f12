"""The decisions behind a repeated request, without a network: what a failure means, which key, when to stop, which model is the same."""

import time
from email.utils import formatdate

import pytest

from addons import attempts
from addons.attempts import BUDGET_MAX, REPEAT_COST, Attempts, Failure, RepeatBudget, Step, failure_of, next_step, read_retry_after, rest_seconds
from addons.fallback import same_model
from addons.provider_keys import KeyRing
from addons.upstream import Provider, longest_silence, read_providers
from config.settings import Settings
from tests.fakes.gateway import CARD


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def ring_of(*secrets: str) -> tuple[KeyRing, Clock]:
    clock = Clock()
    return KeyRing(secrets, clock=clock), clock


def test_the_first_key_serves_as_long_as_it_is_well() -> None:
    ring, _ = ring_of("a", "b", "c")

    assert [ring.choose().position for _ in range(3)] == [1, 1, 1]


def test_of_the_keys_awake_the_one_that_failed_least_recently_is_used() -> None:
    ring, clock = ring_of("a", "b", "c")
    for seconds in (10, 20, 5):
        clock.now += 1
        ring.rest(ring.choose(), seconds)
    clock.now += 30

    first = ring.choose()
    assert first.position == 1
    second = ring.other({first})
    assert second is not None
    assert second.position == 2


def test_where_all_keys_rest_the_one_that_wakes_first_is_used() -> None:
    ring, _ = ring_of("a", "b")
    ring.rest(ring.choose(), 20)
    ring.rest(ring.choose(), 10)

    assert ring.choose().position == 2
    assert ring.other(()) is None


def test_a_longer_rest_is_kept() -> None:
    ring, clock = ring_of("a", "b")
    first = ring.choose()
    ring.rest(first, 100)
    ring.rest(first, 1)
    clock.now += 50

    assert ring.choose().position == 2


def test_a_key_is_not_shown() -> None:
    ring, _ = ring_of("very secret")

    assert "very secret" not in repr(ring.choose())


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (None, {}, None, Failure(reason="connection", passing=True)),
        (503, {}, b"", Failure(reason="status_5xx", passing=True)),
        (529, {"retry-after": "2"}, b"", Failure(reason="status_5xx", passing=True, retry_after=2.0)),
        (500, {"x-should-retry": "False"}, b"", Failure(reason="status_5xx")),
        (505, {}, b"", Failure(reason="status_5xx")),
        (429, {}, b"", Failure(reason="rate_limited", of_key=True, passing=True)),
        (429, {}, b'{"error":{"code":"insufficient_quota"}}', Failure(reason="out_of_credit", of_key=True)),
        (402, {}, b"not json", Failure(reason="out_of_credit", of_key=True)),
        (401, {}, b"", Failure(reason="key_refused", of_key=True)),
        (403, {}, b'{"error":{"metadata":{"provider_name":"x"}}}', Failure(reason="key_refused", of_key=True)),
        (403, {}, b'{"error":{"metadata":{"reasons":["x"]}}}', None),
        (400, {}, b'{"error":{"message":"no"}}', None),
        (404, {}, b"", None),
        (408, {}, b"", None),
        (200, {}, b"", None),
        (302, {}, b"", None),
    ],
)
def test_each_failure_says_who_may_do_better(status: int | None, headers: dict[str, str], body: bytes | None, expected: Failure | None) -> None:
    assert failure_of(status, headers, body, timed_out=None) == expected


def test_a_deadline_is_a_failure_of_its_name() -> None:
    assert failure_of(None, {}, None, timed_out="first_byte") == Failure(reason="first_byte", passing=True)


PASSING, LIMITED, REFUSED = (
    Failure(reason="status_5xx", passing=True), Failure(reason="rate_limited", of_key=True, passing=True), Failure(reason="key_refused", of_key=True)
)  # fmt: skip


@pytest.mark.parametrize(
    ("failure", "other_key", "repeats_left", "pause", "fallback", "expected"),
    [
        (PASSING, True, 1, 1.0, True, Step.AGAIN),
        (PASSING, True, 0, 1.0, True, Step.FALLBACK),
        (PASSING, True, 0, 1.0, False, None),
        (PASSING, True, 5, 8.1, True, Step.FALLBACK),
        (LIMITED, True, 1, 1.0, True, Step.OTHER_KEY),
        (LIMITED, False, 1, 1.0, True, Step.AGAIN),
        (LIMITED, False, 1, 60.0, False, None),
        (REFUSED, True, 0, 1.0, True, Step.OTHER_KEY),
        (REFUSED, False, 9, 1.0, True, Step.FALLBACK),
        (REFUSED, False, 9, 1.0, False, None),
    ],
)
def test_another_key_comes_before_a_pause_and_a_pause_before_the_fallback(
    failure: Failure, other_key: bool, repeats_left: int, pause: float, fallback: bool, expected: Step | None
) -> None:
    assert next_step(failure, other_key=other_key, repeats_left=repeats_left, pause=pause, pause_max=8.0, fallback=fallback) is expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 40}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
    ],
)
def test_a_wish_for_a_pause_is_read_or_taken_for_none(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers) == seconds


def test_a_date_to_come_back_at_is_a_pause_from_now() -> None:
    pause = read_retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)})

    assert pause is not None
    assert 25 < pause <= 30


def test_repeats_are_at_most_a_fifth_of_the_requests_once_the_reserve_is_used_up() -> None:
    budget = RepeatBudget()
    reserve = 0
    while budget.spend():
        reserve += 1

    repeats = 0
    for _ in range(100):
        budget.earn()
        repeats += budget.spend()

    assert reserve == BUDGET_MAX // REPEAT_COST
    assert repeats == 100 // REPEAT_COST


def provider(**section: object) -> Provider:
    settings = Settings.model_validate({"home": "/tmp/x", "providers": {"openai": {"api_key": "k"} | section}})
    return read_providers(settings.providers, settings.gateway)["openai"]


def test_pauses_grow_up_to_their_bound_and_never_fall_short_of_the_providers_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts.random, "uniform", lambda low, high: high)
    trying = Attempts(provider=provider(retry_pause_seconds_max=1.5), key=KeyRing(["k"]).choose(), body=b"", repeats_left=5)
    pauses = []

    for trying.repeats in range(5):
        pauses.append(trying.pause(PASSING))

    assert pauses == [0.25, 0.5, 1.0, 1.5, 1.5]
    assert trying.pause(Failure(reason="status_5xx", passing=True, retry_after=20.0)) == 20.0


def test_a_limited_key_rests_as_long_as_was_asked_and_a_refused_one_as_long_as_is_set() -> None:
    patient = provider(key_rest_seconds=100)

    assert rest_seconds(REFUSED, patient) == 100
    assert rest_seconds(LIMITED, patient) == attempts.RATE_LIMIT_REST_SECONDS
    assert rest_seconds(Failure(reason="rate_limited", retry_after=30.0), patient) == 30
    assert rest_seconds(Failure(reason="rate_limited", retry_after=3600.0), patient) == 100


def test_a_provider_is_as_patient_as_the_gateway_unless_it_says_otherwise() -> None:
    settings = Settings.model_validate({"home": "/tmp/x", "gateway": {"first_byte_seconds_max": 50}, "providers": {"openai": {"stall_seconds_max": 5_000}}})
    read = read_providers(settings.providers, settings.gateway)

    assert (read["openai"].first_byte_seconds_max, read["openai"].stall_seconds_max) == (50, 5_000)
    assert not any(one.is_resilient for one in read.values())
    assert longest_silence(settings) == 5_000


@pytest.mark.parametrize("section", [{"retries": 1}, {"api_keys": "other"}, {"fallback": "openrouter"}])
def test_any_of_the_settings_makes_a_provider_resilient(section: dict[str, object]) -> None:
    assert provider(**section).is_resilient
    assert not provider(api_keys="k").is_resilient  # the same key twice is one


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("claude-sonnet-4-6", "anthropic/claude-sonnet-4.6"),
        ("claude-sonnet-4.6", "anthropic/claude-sonnet-4.6"),
        ("claude-haiku-4-5-20251001", "anthropic/claude-haiku-4.5"),
        ("gpt-4o", "openai/gpt-4o"),
        ("gpt-5.2", "openai/gpt-5.2"),
        ("o3", "openai/o3"),
        ("gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13"),
        ("gpt-4o-2024-08-06", None),  # a snapshot of which only the newest is known there
        ("claude-sonnet-4-6-20990101", None),
        ("text-embedding-ada-002", None),
    ],
)
def test_the_same_model_is_found_at_the_aggregator_or_none_is(name: str, theirs: str | None) -> None:
    rate = CARD.find(name)

    found = same_model(CARD, rate, "openrouter")

    assert (found.provider_model if found is not None else None) == theirs


def test_no_model_has_another_vendors_or_another_models_fallback() -> None:
    def plain(model: str) -> str:
        return model.rpartition("/")[2].replace(".", "-")

    for rate in CARD.all():
        found = same_model(CARD, rate, "openrouter") if rate.provider != "openrouter" else None
        if found is not None:
            assert found.provider == "openrouter"
            assert plain(found.model) in {plain(name) for name in (rate.model, *rate.aliases)}
