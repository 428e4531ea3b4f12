"""Pieces leave together at the end of a turn, in the order they were given; nothing is written twice, lost or written too late."""

import asyncio
from typing import cast

from addons.departures import Departures


class Pipe:
    """The writing end of a connection; all of them tell one list what they were given."""

    def __init__(self, name: str, told: list[str]) -> None:
        self._name, self._told, self.closed, self.broken, self.aborted = name, told, False, False, False

    def write(self, data: bytes) -> None:
        if self.broken:
            raise RuntimeError("no more can be written here")
        self._told.append(f"{self._name}{data.decode()}")

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.aborted = True


def pipe(name: str, told: list[str]) -> asyncio.WriteTransport:
    return cast("asyncio.WriteTransport", Pipe(name, told))


async def test_what_is_given_in_one_turn_leaves_at_its_end_in_the_order_it_came() -> None:
    told: list[str] = []
    one, two, departures = pipe("a", told), pipe("b", told), Departures()

    for transport, data in ((one, b"1"), (two, b"2"), (one, b"3")):
        departures.add(transport, data)
    assert told == []
    await asyncio.sleep(0)
    assert told == ["a1", "b2", "a3"]

    departures.add(two, b"4")
    await asyncio.sleep(0)
    assert told == ["a1", "b2", "a3", "b4"]


async def test_whoever_must_not_wait_lets_all_leave_and_nothing_leaves_twice() -> None:
    told: list[str] = []
    one, departures = pipe("a", told), Departures()

    departures.add(one, b"1")
    departures.leave()
    assert told == ["a1"]
    departures.add(one, b"2")
    assert told == ["a1"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert told == ["a1", "a2"]


async def test_a_connection_that_was_closed_meanwhile_is_left_alone() -> None:
    told: list[str] = []
    one, two, departures = pipe("a", told), pipe("b", told), Departures()

    departures.add(one, b"1")
    departures.add(two, b"2")
    cast("Pipe", one).closed = True
    await asyncio.sleep(0)

    assert told == ["b2"]


async def test_a_connection_that_takes_nothing_any_more_is_ended_and_keeps_nothing_back_from_the_others() -> None:
    told: list[str] = []
    one, two, departures = pipe("a", told), pipe("b", told), Departures()
    cast("Pipe", one).broken = True

    departures.add(one, b"1")
    departures.add(two, b"2")
    await asyncio.sleep(0)

    assert told == ["b2"]
    assert (cast("Pipe", one).aborted, cast("Pipe", two).aborted) == (True, False)
