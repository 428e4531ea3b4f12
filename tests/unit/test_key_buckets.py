"""The rate of one ingest key: a minute's worth at once, then evenly, and no memory of keys that are none."""

from control.key_buckets import SWEEP_EVERY, KeyBuckets


def test_a_minutes_worth_is_granted_at_once_and_then_no_more() -> None:
    buckets = KeyBuckets(5)

    assert [buckets.take("k", 100.0) > 0 for _ in range(7)] == [False] * 5 + [True] * 2


def test_who_waits_as_long_as_was_said_gets_the_next_one() -> None:
    buckets = KeyBuckets(6)
    while (seconds := buckets.take("k", 0.0)) == 0:
        continue

    assert buckets.take("k", seconds - 1) > 0
    assert buckets.take("k", seconds + 0.01) == 0
    assert buckets.take("k", seconds + 0.01) > 0


def test_a_bucket_is_full_again_after_a_minute() -> None:
    buckets = KeyBuckets(600)

    assert sum(buckets.take("k", 0.0) == 0 for _ in range(700)) == 600
    assert sum(buckets.take("k", 60.1) == 0 for _ in range(700)) == 600


def test_keys_do_not_share_a_bucket() -> None:
    buckets = KeyBuckets(1)

    assert [buckets.take(key, 0.0) > 0 for key in ("a", "b", "a")] == [False, False, True]


def test_zero_is_no_limit() -> None:
    assert not any(KeyBuckets(0).take("k", 0.0) for _ in range(10_000))


def test_keys_that_rest_are_forgotten() -> None:
    buckets = KeyBuckets(600)
    for number in range(2 * SWEEP_EVERY):
        buckets.take(f"key-{number}", number * 0.01)
    buckets.take("k", 1000.0)
    buckets.forget("k")

    assert len(buckets._empty_at) <= SWEEP_EVERY + SWEEP_EVERY // 2
    assert buckets.take("k", 1000.0) == 0
