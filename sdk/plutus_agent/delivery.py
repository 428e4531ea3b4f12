"""Sending in the background what the spool holds, a thousand events at a time."""

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plutus_agent.answers import Outcome
from plutus_agent.errors import PlutusError
from plutus_agent.remote import Remote
from plutus_agent.retrying import pause_after
from plutus_agent.spool import Spool

# How often the folder is looked through for what other processes left when they died.
ADOPT_SECONDS = 60.0
CONFLICTS_MAX = 5
SPLIT_AT = frozenset({400, 409, 413, 422})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryState:
    """How a buffered meter stands: events that wait, and what became of those sent by this process.

    `refused` events were such that the server will never take them; they lie in `refused.jsonl` of the
    spool. `dropped` ones found the spool full. `balance_after_microunits` is the last one told.
    """

    waiting: int
    recorded: int
    blocked: int
    refused: int
    dropped: int
    balance_after_microunits: int | None
    last_error: str | None


_all_deliveries: "weakref.WeakSet[Delivery]" = weakref.WeakSet()


class Delivery:
    """A thread that sends what the spool holds. It starts with the first event; in a forked child it starts anew."""

    def __init__(self, remote: Remote, spool: Spool, *, timeout: float, interval: float, exit_seconds: float) -> None:
        self._remote, self._spool = remote, spool
        self._timeout, self._interval, self._exit_seconds = timeout, interval, exit_seconds
        self._counts = {"recorded": 0, "blocked": 0, "refused": 0, "dropped": 0}
        self._balance: int | None = None
        self._closed = False
        self._begin()
        _all_deliveries.add(self)
        self._adopt()
        if len(spool):
            self._start()

    def put(self, line: str) -> bool:
        """Write one event to the spool and see to it that it is sent; False when the spool is full.

        Raises:
            PlutusError: the disk refused it, or the meter is closed.
        """
        if self._closed:
            raise PlutusError("the meter is closed")
        segments = self._spool.segments
        if not self._spool.append(line):
            self._counts["dropped"] += 1
            return False
        self._start()
        # The thread knows when the open segment is due. It is woken for the first event, and for a batch that has become full.
        if self._idle or self._spool.segments != segments:
            self._wake.set()
        return True

    def flush(self, timeout: float | None = None) -> bool:
        """Send everything that waits, within `timeout` seconds (the default: as long as one request may take); tell whether nothing is left."""
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        while len(self._spool):
            wait = self._rest_until - time.monotonic()
            left = deadline - time.monotonic()
            if left <= max(0.0, wait):
                return False
            if wait > 0:
                time.sleep(wait)
            self._send_next(min(self._timeout, max(0.01, deadline - time.monotonic())), wait=left)
        return True

    def close(self, timeout: float | None = None) -> bool:
        """Flush, stop the thread and let go of the spool; what is left there goes out at the next start."""
        if self._closed:
            return len(self._spool) == 0
        deadline = time.monotonic() + (self._exit_seconds if timeout is None else timeout)
        done = self.flush(deadline - time.monotonic())
        self._closed = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            # A request that is under way may still succeed; its segment stays on disk if not.
            self._thread.join(max(0.1, deadline - time.monotonic()))
        atexit.unregister(self._at_exit)
        self._spool.close()
        return done

    def state(self) -> DeliveryState:
        """Return how things stand."""
        return DeliveryState(waiting=len(self._spool), balance_after_microunits=self._balance, last_error=self._last_error, **self._counts)

    def forget(self) -> None:
        """Begin anew in the child of a fork."""
        self._spool.forget()
        self._begin()

    def _begin(self) -> None:
        self._thread: threading.Thread | None = None
        self._starting, self._sending = threading.Lock(), threading.Lock()
        self._wake = threading.Event()
        self._idle = False
        self._failures = 0
        self._rest_until = self._adopted_at = 0.0
        self._last_error: str | None = None

    def _start(self) -> None:
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is not None:
                return
            # A child of multiprocessing clears what its parent had registered.
            atexit.register(self._at_exit)
            thread = threading.Thread(target=self._run, name="plutus-delivery", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # the interpreter is ending: the spool keeps the events
            self._thread = thread

    def _at_exit(self) -> None:
        self.close()

    def _run(self) -> None:
        pid = os.getpid()
        while not self._closed and os.getpid() == pid:
            self._idle = True  # before looking: an event that comes in between then wakes us
            pause = self._due_in()
            self._idle = pause is None
            if pause is None or pause > 0:
                self._wake.wait(ADOPT_SECONDS if pause is None else min(pause, ADOPT_SECONDS))
                self._wake.clear()
                if time.monotonic() - self._adopted_at > ADOPT_SECONDS:
                    self._adopt()
                continue
            self._send_next(self._timeout, wait=self._timeout)

    def _due_in(self) -> float | None:
        """Return in how many seconds something is to be sent; None when nothing waits."""
        since = self._spool.oldest_since()
        return None if since is None else max(since + self._interval, self._rest_until) - time.monotonic()

    def _adopt(self) -> None:
        self._adopted_at = time.monotonic()
        self._spool.adopt()

    def _send_next(self, timeout: float, *, wait: float) -> None:
        """Send the oldest segment, if nobody else is sending within `wait` seconds. What fails stays, and is left alone for a while."""
        if not self._sending.acquire(timeout=wait):
            return
        try:
            segment = None if self._closed else self._spool.take()
            if segment is None:
                return
            send_splitting(self._remote, segment.read(), timeout=timeout, failures=self._failures, refuse=self._refuse, done=self._count)
            self._spool.remove(segment)
            if self._failures:
                self._failures, self._last_error = 0, None
        except PlutusError as error:
            self._failures += 1
            self._last_error = str(error)
            self._rest_until = time.monotonic() + pause_after(self._failures, error.retry_after)
        except OSError as error:
            self._failures += 1
            self._last_error = f"the spool cannot be read: {error.strerror}"
            self._rest_until = time.monotonic() + pause_after(self._failures)
        finally:
            self._sending.release()

    def _refuse(self, line: str, error: PlutusError) -> None:
        self._counts["refused"] += 1
        self._last_error = str(error)
        self._spool.refuse(line)

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        recorded = sum(outcome.recorded for outcome in outcomes)
        self._counts["recorded"] += recorded
        self._counts["blocked"] += len(outcomes) - recorded
        self._balance = outcomes[-1].balance_after


def send_splitting(
    remote: Remote,
    lines: Sequence[str],
    *,
    timeout: float,
    failures: int,
    refuse: Callable[[str, PlutusError], None],
    done: Callable[[Sequence[Outcome]], None],
) -> None:
    """Send events; one that the server finds wrong does not stop the others.

    A batch that is refused whole (400, 409, 413, 422) is halved until the bad event stands alone, which goes to `refuse`. A conflict
    (409) may be no more than an earlier sending that is still being recorded: it counts as a refusal after `failures` in a row.

    Raises:
        PlutusError: the server could not take them now. Those before may be in; sending all again does no harm.
    """
    if not lines:
        return
    try:
        done(remote.send(lines, timeout=timeout))
    except PlutusError as error:
        if error.status not in SPLIT_AT or error.retry_after is not None or (error.status == 409 and len(lines) == 1 and failures < CONFLICTS_MAX):
            raise
        if len(lines) == 1:
            refuse(lines[0], error)
            return
        middle = len(lines) // 2
        for half in (lines[:middle], lines[middle:]):
            send_splitting(remote, half, timeout=timeout, failures=failures, refuse=refuse, done=done)


def _forget_all() -> None:
    for delivery in list(_all_deliveries):
        delivery.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
