"""The SDK's tests: a server that misbehaves on demand, and nothing of the caller's own machine."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.usage_server import UsageServer, usage_server


@pytest.fixture
def server() -> Iterator[UsageServer]:
    with usage_server() as running:
        yield running


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of the test's own: the SDK must find nothing of the machine it is tested on."""
    for name in ("PLUTUS_REMOTE_URL", "PLUTUS_API_KEY", "PLUTUS_DB", "PLUTUS_ORG", "PLUTUS_HOOK_SECONDS", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLUTUS_HOME", str(tmp_path / "plutus"))
    return tmp_path


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until a condition holds, with a generous deadline."""

    def wait(condition: Callable[[], bool], seconds_max: float = 20.0) -> None:
        deadline = time.monotonic() + seconds_max
        while not condition():
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.01)

    return wait
