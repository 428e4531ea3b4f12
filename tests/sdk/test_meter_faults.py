"""Whatever a server or a network does, `track` ends in time, with a documented error or none, and counts nothing twice."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from plutus_agent import Meter, PlutusError
from plutus_agent.retrying import pause_after, read_retry_after

from tests.fakes.appliance import free_ports
from tests.fakes.usage_server import KEY, UsageServer, cuts, drips, hangs, records_then_resets, resets, says


def test_a_refused_connection_is_a_plutus_error_in_time() -> None:
    port = free_ports(1)[0]
    started = time.monotonic()

    with pytest.raises(PlutusError, match=r"could not reach http://127\.0\.0\.1") as failure:
        Meter(remote=f"http://127.0.0.1:{port}", api_key=KEY, timeout=2).track("openai")

    assert failure.value.retryable
    assert time.monotonic() - started < 10
    assert KEY not in str(failure.value)


@pytest.mark.parametrize("fault", [hangs, drips])
def test_a_server_that_does_not_end_its_answer_is_left_in_time(server: UsageServer, fault: Callable[..., None]) -> None:
    server.faults.append(fault)
    started = time.monotonic()

    with pytest.raises(PlutusError, match=r"no answer .* in time"):
        Meter(remote=server.url, api_key=KEY, timeout=0.5).track("openai")

    assert time.monotonic() - started < 10


def test_a_server_that_accepts_and_says_nothing_is_left_in_time() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)

        with pytest.raises(PlutusError, match="in time"):
            Meter(remote=f"http://127.0.0.1:{deaf.getsockname()[1]}", api_key=KEY, timeout=0.3).track("openai")


@pytest.mark.parametrize(
    "fault", [resets, records_then_resets, cuts, says(503), says(429), says(502, b"<html>"), says(200, b"not json"), says(200, [1]), says(200, {})]
)
def test_what_passes_is_tried_again_and_counted_once(server: UsageServer, fault: Callable[..., None]) -> None:
    server.faults.append(fault)

    result = Meter(remote=server.url, api_key=KEY).track("openai", input_tokens=5)

    assert result.recorded
    assert len(server.asked) == 2
    assert server.asked[0].text == server.asked[1].text
    assert len(server.recorded) == 1


def test_a_reset_of_a_kept_connection_counts_nothing_twice(server: UsageServer) -> None:
    meter = Meter(remote=server.url, api_key=KEY)
    meter.track("openai")
    server.faults += [records_then_resets]

    assert meter.track("openai").idempotent_replay
    assert len(server.recorded) == 2


@pytest.mark.parametrize("fault", [resets, cuts, says(503), says(200, b"{"), says(200, b'{"recorded": "yes"}'), says(200, b'{"cost_usd": true}')])
def test_what_does_not_pass_becomes_a_plutus_error_after_a_few_tries(server: UsageServer, fault: Callable[..., None]) -> None:
    server.faults += [fault] * 10

    with pytest.raises(PlutusError) as failure:
        Meter(remote=server.url, api_key=KEY).track("openai")

    assert failure.value.retryable
    assert 3 <= len(server.asked) <= 6


def test_deep_or_endless_json_is_no_more_than_unreadable(server: UsageServer) -> None:
    server.faults += [says(200, b"[" * 100_000)] * 3

    with pytest.raises(PlutusError, match="no usage answer"):
        Meter(remote=server.url, api_key=KEY).track("openai")


@pytest.mark.parametrize("status", [301, 400, 403, 404, 413])
def test_a_refusal_is_told_at_once_in_the_words_of_the_server(server: UsageServer, status: int) -> None:
    server.faults.append(says(status, {"error": "each event needs\n a 'provider'"}, Location="http://127.0.0.1:1/"))

    with pytest.raises(PlutusError, match=f"HTTP {status}, each event needs a 'provider'") as failure:
        Meter(remote=server.url, api_key=KEY).track("openai")

    assert (failure.value.status, failure.value.retryable) == (status, False)
    assert len(server.asked) == 1


def test_a_wait_that_the_server_asks_for_is_kept_to(server: UsageServer) -> None:
    server.faults.append(says(429, Retry_After="1"))
    started = time.monotonic()

    assert Meter(remote=server.url, api_key=KEY).track("openai").recorded
    assert time.monotonic() - started >= 1


def test_a_wait_that_is_longer_than_the_call_may_take_is_not_begun(server: UsageServer) -> None:
    server.faults.append(says(503, Retry_After="120"))
    started = time.monotonic()

    with pytest.raises(PlutusError) as failure:
        Meter(remote=server.url, api_key=KEY, timeout=5).track("openai")

    assert failure.value.retry_after == 120
    assert time.monotonic() - started < 4


def test_after_a_fault_the_meter_works_on(server: UsageServer) -> None:
    meter = Meter(remote=server.url, api_key=KEY, timeout=0.5)
    server.faults.append(hangs)
    with pytest.raises(PlutusError):
        meter.track("openai")

    meter.timeout = 10

    assert meter.track("openai").recorded


def test_a_server_that_restarts_is_found_again(server: UsageServer) -> None:
    meter = Meter(remote=server.url, api_key=KEY)
    meter.track("openai")
    server.stop()
    threading.Timer(0.1, server.start).start()

    # Waits between tries are short; the server is back within a few of them.
    deadline = time.monotonic() + 20
    while True:
        try:
            assert meter.track("openai").recorded
            break
        except PlutusError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("3", 3.0), ("0.5", 0.5), ("-4", 0.0), ("soon", None), ("nan", None), ("inf", 3600.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)
def test_a_retry_after_is_read_within_bounds(text: Any, seconds: Any) -> None:
    assert read_retry_after(text) == seconds


def test_waits_grow_to_a_bound_and_are_spread() -> None:
    assert all(0.1 <= pause_after(1) <= 0.2 for _ in range(100))
    assert all(30 <= pause_after(1000) <= 60 for _ in range(100))
    assert len({pause_after(5) for _ in range(20)}) > 1
    assert 5 <= pause_after(1, 5.0) <= 5.5
