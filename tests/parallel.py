"""Runs the tests in several processes that are forked once everything has been collected.

To import all test modules and to collect their tests takes a core twelve seconds. Here that happens once, and what it made is shared: a
forked process begins at once with its first group of tests, see `tests.distribution`. It has fixtures of its own, also those of the session.

    pytest --processes 4
"""

import atexit
import gc
import io
import os
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

import pytest
from _pytest._io import TerminalWriter

from tests.distribution import FIRST, group_of, groups_of

REPORT, START, FINISH, WARNING, NEXT, BROKEN, GONE = "report", "start", "finish", "warning", "next", "broken", "gone"


class Between:
    """Stands for the test that comes next where that is not known yet: it shares nothing with the last one but the session."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session

    def listchain(self) -> list[pytest.Session]:
        return [self._session]


class NoTerminal:
    """Stands for the terminal where there is none."""

    def __init__(self) -> None:
        self._tw = TerminalWriter(io.StringIO())


class Child:
    """What happens in a forked process: it asks for groups of tests, runs them, and tells what came of it."""

    def __init__(self, session: pytest.Session, connection: Connection) -> None:
        self._session, self._connection = session, connection
        self._is_past = True

    def run(self) -> NoReturn:
        """Run what it is given, to the end, and leave without anything that the first process has to do at its own end."""
        atexit._clear()
        code = 0
        try:
            self._prepare()
            self._work()
        except BaseException as error:
            code = 1
            self._give_up(error)
        finally:
            atexit._run_exitfuncs()
            os._exit(code)

    def _prepare(self) -> None:
        plugins = self._session.config.pluginmanager
        # Whoever explains a failure asks for the terminal; what it would write there, the first process writes.
        plugins.unregister(name="terminalreporter")
        plugins.register(NoTerminal(), "terminalreporter")
        plugins.register(self)
        self._is_past = False
        # What is captured goes into files, and each process needs its own.
        capture = plugins.getplugin("capturemanager")
        capture.stop_global_capturing()
        capture.start_global_capturing()

    def _work(self) -> None:
        session, last = self._session, None
        while (places := self._ask()) is not None:
            items = [session.items[place] for place in places]
            for item, following in zip(items, [*items[1:], Between(session)], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                last = item
        if last is not None:
            self._close(last)

    def _ask(self) -> Sequence[int] | None:
        self._connection.send((NEXT,))
        places: Sequence[int] | None = self._connection.recv()
        return places

    def _close(self, last: pytest.Item) -> None:
        """Take down the fixtures of the session. What fails then is told of the last test, as where one process runs them all."""
        call = pytest.CallInfo.from_call(lambda: self._session._setupstate.teardown_exact(None), "teardown", reraise=(KeyboardInterrupt,))
        if call.excinfo is not None:
            self.pytest_runtest_logreport(last.ihook.pytest_runtest_makereport(item=last, call=call))

    def _give_up(self, error: BaseException) -> None:
        """Leave nothing running; say what went wrong to a first process that is still there."""
        told = "".join(traceback.format_exception(error))
        with suppress(Exception):
            self._session._setupstate.teardown_exact(None)
        if not isinstance(error, KeyboardInterrupt | ConnectionError | EOFError):
            with suppress(ConnectionError):
                self._connection.send((BROKEN, told))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._connection.send((START, nodeid))

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._connection.send((FINISH, nodeid, location))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        config = self._session.config
        self._connection.send((REPORT, config.hook.pytest_report_to_serializable(config=config, report=report)))

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: tuple[str, int, str] | None) -> None:
        if not self._is_past:
            told = (warning_message.category.__name__, str(warning_message.message), warning_message.filename, warning_message.lineno)
            self._connection.send((WARNING, told, when, nodeid, location))


@dataclass
class Process:
    """A forked process as the first one sees it: the tests it was given and has not begun, and the one that runs."""

    pid: int
    connection: Connection
    waiting: deque[int] = field(default_factory=deque)
    running: pytest.Item | None = None
    has_appliance: bool = False


class Parent:
    """Hands groups of tests to processes, and tells pytest what they say."""

    def __init__(self, session: pytest.Session, processes: int) -> None:
        self._session = session
        self._groups = deque(groups_of([item.nodeid for item in session.items]))
        self._count = min(processes, len(self._groups))
        self._processes: list[Process] = []

    def run(self) -> None:
        """Return when all tests ran, or when enough of them failed.

        Raises:
            RuntimeError: something was started while the tests were collected that a fork would break.
        """
        if threading.active_count() > 1:
            raise RuntimeError(f"threads run before the first test: {threading.enumerate()}")
        gc.collect()
        gc.freeze()  # what all processes share is never written to, nor looked through again
        try:
            self._processes = [self._fork() for _ in range(self._count)]
            while self._processes and not self._is_enough():
                connections = {process.connection: process for process in self._processes}
                for ready in wait(list(connections)):
                    self._listen(connections[ready])
        finally:
            self._leave()
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _is_enough(self) -> bool:
        return bool(self._session.shouldfail or self._session.shouldstop)

    def _fork(self) -> Process:
        capture = self._session.config.pluginmanager.getplugin("capturemanager")
        capture.read_global_capture()
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for other in self._processes:
                other.connection.close()
            Child(self._session, theirs).run()
        theirs.close()
        return Process(pid, ours)

    def _listen(self, process: Process) -> None:
        kind, told = self._hear(process)
        hook = self._session.config.hook
        if kind == GONE:
            self._bury(process)
        elif kind == NEXT:
            self._give(process)
        elif kind == START:
            process.running = self._session.items[process.waiting.popleft()]
        elif kind == FINISH:
            process.running = None
            hook.pytest_runtest_logfinish(nodeid=told[0], location=told[1])
        elif kind == REPORT:
            self._report(hook.pytest_report_from_serializable(config=self._session.config, data=told[0]))
        elif kind == WARNING:
            (category, text, filename, line), when, nodeid, location = told
            kind_of_warning = type(category, (Warning,), {})
            message = warnings.WarningMessage(kind_of_warning(text), kind_of_warning, filename, line)
            hook.pytest_warning_recorded.call_historic(kwargs={"warning_message": message, "when": when, "nodeid": nodeid, "location": location})
        else:
            raise RuntimeError(f"a process of tests broke:\n{told[0]}")

    @staticmethod
    def _hear(process: Process) -> tuple[str, list[Any]]:
        try:
            kind, *told = process.connection.recv()
        except (EOFError, ConnectionError):
            return GONE, []
        return kind, told

    def _give(self, process: Process) -> None:
        """Give a process its next group. One that has an appliance is done with it: it would keep it running, which costs more than to fork anew."""
        process.waiting = deque(self._groups.popleft()) if self._groups and not process.has_appliance else deque()
        process.connection.send(list(process.waiting) or None)
        process.has_appliance = bool(process.waiting) and group_of(self._session.items[process.waiting[0]].nodeid) in FIRST

    def _report(self, report: Any) -> None:
        self._session.config.hook.pytest_runtest_logreport(report=report)

    def _bury(self, process: Process) -> None:
        """Look after a process that is gone. Where it was in the middle of a test that one fails, and another process runs what it left."""
        self._processes.remove(process)
        process.connection.close()
        _, status = os.waitpid(process.pid, 0)
        if process.running is not None:
            how = f"the process of this test ended with {os.waitstatus_to_exitcode(status)}"
            self._report(pytest.TestReport.from_item_and_call(process.running, pytest.CallInfo.from_call(lambda: pytest.fail(how, pytrace=False), "call")))
        if process.waiting:
            self._groups.appendleft(list(process.waiting))
        if self._groups:
            self._processes.append(self._fork())

    def _leave(self) -> None:
        """Let go of those that are left where not all tests are wanted any more, and wait until they have taken down what they started."""
        for process in self._processes:
            process.connection.close()
        for process in self._processes:
            os.waitpid(process.pid, 0)
        self._processes = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--processes", type=int, default=1, help="run the tests in so many processes; files that share an appliance stay together")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run all tests that were collected; leaves it to pytest where one process is enough, or where nothing is to be run."""
    option = session.config.option
    if option.processes < 2 or option.collectonly or session.testsfailed:
        return None
    Parent(session, option.processes).run()
    return True
