"""What a round of replies sets off is written at its end, in its order, and nothing is written twice, lost or written too late."""

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest

from ledger import reply_round


class Pipe:
    """The writing end of a connection; all of them tell one list what they were given."""

    def __init__(self, name: str, told: list[str]) -> None:
        self._name, self._told, self.closed = name, told, False

    def write(self, data: bytes) -> None:
        self._told.append(f"{self._name}{data.decode()}")

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def told() -> Iterator[list[str]]:
    yield []
    reply_round.end()


def pipe(name: str, told: list[str]) -> asyncio.WriteTransport:
    return cast("asyncio.WriteTransport", Pipe(name, told))


def test_outside_of_a_round_everything_is_written_at_once(told: list[str]) -> None:
    reply_round.write(pipe("a", told), b"1")

    assert told == ["a1"]


def test_in_a_round_it_is_written_at_the_end_in_the_order_it_came(told: list[str]) -> None:
    one, two = pipe("a", told), pipe("b", told)

    reply_round.begin()
    for transport, data in ((one, b"1"), (two, b"2"), (one, b"3")):
        reply_round.write(transport, data)
    assert told == []
    reply_round.end()

    assert told == ["a1", "b2", "a3"]
    reply_round.write(one, b"4")
    assert told[3:] == ["a4"]


def test_whoever_must_not_wait_catches_up_and_the_round_goes_on(told: list[str]) -> None:
    one = pipe("a", told)

    reply_round.begin()
    reply_round.write(one, b"1")
    reply_round.catch_up()
    assert told == ["a1"]
    reply_round.write(one, b"2")
    assert told == ["a1"]
    reply_round.end()

    assert told == ["a1", "a2"]


def test_a_connection_that_was_closed_meanwhile_is_left_alone(told: list[str]) -> None:
    one, two = pipe("a", told), pipe("b", told)

    reply_round.begin()
    reply_round.write(one, b"1")
    reply_round.write(two, b"2")
    cast("Pipe", one).closed = True
    reply_round.end()

    assert told == ["b2"]
