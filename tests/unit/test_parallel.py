"""Running tests in several processes: whatever becomes of a test or of its process is told, once."""

import os
import subprocess
import sys
from pathlib import Path

from tests.distribution import BROWSED, FIRST, group_of, groups_of

ROOT = Path(__file__).parents[2]
FIRST_FILE = """
import pytest

@pytest.fixture(scope="session")
def broken_in_the_end():
    yield
    raise ValueError("it does not go away")

def test_that_passes(broken_in_the_end): ...
def test_that_fails(): assert [1, 2] == [1, 3]
def test_that_is_skipped(): pytest.skip("not today")
"""
SECOND_FILE = """
import os

def test_before(): ...
def test_that_kills_its_process(): os._exit(9)
def test_after(): print("written by one that passes")
def test_that_says_something(): print("written by one that fails"); assert 0
"""


def test_whatever_becomes_of_a_test_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]")
    (tmp_path / "test_first.py").write_text(FIRST_FILE)
    (tmp_path / "test_second.py").write_text(SECOND_FILE)
    command = [sys.executable, "-m", "pytest", "-p", "tests.parallel", "--processes", "2", "-ra", "-p", "no:cacheprovider", str(tmp_path)]

    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)

    told = done.stdout
    assert done.returncode == 1, told + done.stderr
    assert "3 failed, 3 passed, 1 skipped, 1 error" in told, told
    assert "the process of this test ended with 9" in told
    assert "ValueError: it does not go away" in told
    assert "not today" in told
    assert "At index 1 diff: 2 != 3" in told
    assert "written by one that fails" in told
    assert "written by one that passes" not in told


def test_files_that_share_an_appliance_are_one_group_and_begun_first() -> None:
    nodeids = ["tests/unit/test_a.py::test_1", "tests/browser/test_b.py::test_1", "tests/unit/test_a.py::test_2", "tests/browser/test_c.py::test_1"]

    groups = groups_of(nodeids)

    assert groups == [[1, 3], [0, 2]]
    assert group_of(nodeids[1]) == BROWSED in FIRST


def test_files_are_spread_where_all_of_them_share_an_appliance() -> None:
    assert groups_of(["tests/browser/test_b.py::test_1", "tests/browser/test_c.py::test_1", "tests/browser/test_b.py::test_2"]) == [[0, 2], [1]]
