"""What a busy path counts is gathered, and written to the metrics as it would have been one by one."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from telemetry.tallies import Tallies


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


async def test_counts_are_added_up_and_written_together(registry: CollectorRegistry) -> None:
    counter, tallies = Counter("charges", "Charges.", registry=registry), Tallies()

    for _ in range(3):
        tallies.count(counter)
    tallies.count(counter, 330)

    assert registry.get_sample_value("charges_total") == 0
    tallies.write()
    assert registry.get_sample_value("charges_total") == 333


async def test_a_histogram_gets_what_observing_each_value_would_have_given_it(registry: CollectorRegistry) -> None:
    one_by_one = Histogram("one_by_one", "Seconds.", registry=registry, buckets=(0.1, 1.0))
    gathered, tallies = Histogram("gathered", "Seconds.", registry=registry, buckets=(0.1, 1.0)), Tallies()

    for value in (0.05, 0.1, 0.100001, 1.0, 7.0):
        one_by_one.observe(value)
        tallies.observe(gathered, value)
    tallies.write()

    for bound in ("0.1", "1.0", "+Inf"):
        assert registry.get_sample_value("gathered_bucket", {"le": bound}) == registry.get_sample_value("one_by_one_bucket", {"le": bound})
    assert registry.get_sample_value("gathered_sum") == pytest.approx(registry.get_sample_value("one_by_one_sum"))


async def test_a_gauge_shows_the_last_value(registry: CollectorRegistry) -> None:
    gauge, tallies = Gauge("holds", "Holds.", registry=registry), Tallies()

    for value in (1, 2, 1):
        tallies.show(gauge, value)
    tallies.write()

    assert registry.get_sample_value("holds") == 1


async def test_what_has_happened_is_counted_all_at_once_when_it_is_written(registry: CollectorRegistry) -> None:
    counter, tallies = Counter("charges", "Charges.", registry=registry), Tallies()
    turns: list[list[int]] = []

    def count_all(charges: list[int]) -> None:
        turns.append(charges)
        tallies.count(counter, sum(charges))

    for charge in (1, 2, 330):
        tallies.gather(count_all, charge)

    assert turns == []
    tallies.write()
    assert turns == [[1, 2, 330]]
    assert registry.get_sample_value("charges_total") == 333
    tallies.write()
    assert turns == [[1, 2, 330]]


def test_without_a_loop_what_has_happened_is_counted_at_once(registry: CollectorRegistry) -> None:
    counter, tallies = Counter("charges", "Charges.", registry=registry), Tallies()

    tallies.gather(lambda charges: tallies.count(counter, sum(charges)), 330)

    assert registry.get_sample_value("charges_total") == 330


async def test_what_was_gathered_is_written_by_itself_a_moment_later(registry: CollectorRegistry) -> None:
    counter, tallies = Counter("charges", "Charges.", registry=registry), Tallies()

    tallies.count(counter)

    async with asyncio.timeout(10):
        while registry.get_sample_value("charges_total") != 1:
            await asyncio.sleep(0.01)


def test_without_a_loop_counts_are_written_at_once(registry: CollectorRegistry) -> None:
    counter, tallies = Counter("charges", "Charges.", registry=registry), Tallies()

    tallies.count(counter)

    assert registry.get_sample_value("charges_total") == 1


def test_what_a_loop_left_behind_is_written_in_the_next_one(registry: CollectorRegistry) -> None:
    counter, tallies = Counter("charges", "Charges.", registry=registry), Tallies()

    async def count() -> None:
        tallies.count(counter)

    asyncio.run(count())  # gone before it was time to write
    asyncio.run(count())
    tallies.write()

    assert registry.get_sample_value("charges_total") == 2
