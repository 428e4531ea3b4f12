"""The clocks of requests: each fires once when its phase is over, and thousands of long ones need one timer."""

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from addons import deadlines
from addons.deadlines import Watch

SECONDS_MAX = 30.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phase of half a second is a long one."""
    monkeypatch.setattr(deadlines, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(deadlines, "ROUND_SECONDS", 0.05)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.5])
async def test_a_phase_that_is_over_fires_once_and_not_before(seconds: float) -> None:
    loop, fired = asyncio.get_running_loop(), []
    watch = Watch(lambda reason: fired.append((reason, loop.time())))

    began = loop.time()
    watch.start("stall", seconds)
    await until(lambda: fired)
    await asyncio.sleep(seconds + 0.3)

    [(reason, at)] = fired
    assert reason == "stall"
    assert at - began >= seconds


@pytest.mark.parametrize("seconds", [0.1, 0.4])
async def test_what_comes_begins_the_time_anew(seconds: float) -> None:
    loop, fired, touched = asyncio.get_running_loop(), [], 0.0
    watch = Watch(lambda _: fired.append(loop.time()))
    watch.start("stall", seconds)

    for _ in range(3):
        await asyncio.sleep(seconds / 4)
        touched = loop.time()
        watch.touched_at = loop.time()
    await until(lambda: fired)

    assert fired[0] - touched >= seconds


@pytest.mark.parametrize("seconds", [0.05, 0.5])
async def test_a_clock_that_was_stopped_is_silent_until_the_next_phase(seconds: float) -> None:
    fired: list[str] = []
    watch = Watch(fired.append)
    watch.start("first_byte", seconds)
    watch.stop()
    await asyncio.sleep(seconds + 0.3)
    assert fired == []

    watch.start("stall", seconds)
    await until(lambda: fired)

    assert fired == ["stall"]


@pytest.mark.parametrize(("first", "second"), [(20.0, 0.05), (20.0, 0.5), (0.05, 20.0)])
async def test_the_phase_that_began_last_counts(first: float, second: float) -> None:
    fired: list[str] = []
    watch = Watch(fired.append)
    watch.start("first_byte", first)
    watch.start("stall", second)

    if second < first:
        await until(lambda: fired)
    else:
        await asyncio.sleep(0.3)

    assert fired == (["stall"] if second < first else [])
    watch.close()


async def test_long_phases_share_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, fired = asyncio.get_running_loop(), []
    timers = []
    call_at = loop.call_at
    monkeypatch.setattr(loop, "call_at", lambda when, *what, **how: timers.append(when) or call_at(when, *what, **how))

    for number in range(1000):
        Watch(lambda _, number=number: fired.append(number)).start("stall", 0.2)
    assert len(timers) == 1
    await until(lambda: len(fired) == 1000)

    assert sorted(fired) == list(range(1000))


async def test_a_clock_that_was_closed_keeps_nothing_and_never_fires() -> None:
    class Request:
        heard = False

        def hear(self, _reason: str) -> None:
            Request.heard = True

    request = Request()
    watch, gone = Watch(request.hear), weakref.ref(request)
    watch.start("stall", 0.5)

    watch.close()
    del request
    gc.collect()

    assert gone() is None
    await asyncio.sleep(0.8)
    assert not Request.heard


async def test_a_clock_whose_end_goes_wrong_keeps_no_other_from_its_own() -> None:
    fired: list[str] = []

    def fail(reason: str) -> None:
        raise RuntimeError(reason)

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    Watch(fail).start("stall", 0.2)
    Watch(fired.append).start("stall", 0.2)

    await until(lambda: fired)

    assert fired == ["stall"]
