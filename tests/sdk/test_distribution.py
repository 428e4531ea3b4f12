"""The SDK as a distribution: alone, typed, never uploaded, and with the prices of the rate card."""

import ast
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SDK = Path(__file__).resolve().parents[2] / "sdk"
PACKAGE = SDK / "plutus_agent"
PROJECT = tomllib.loads((SDK / "pyproject.toml").read_text())["project"]
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_it_is_never_uploaded_and_needs_nothing() -> None:
    assert "Private :: Do Not Upload" in PROJECT["classifiers"]
    assert PROJECT["dependencies"] == []
    assert (PACKAGE / "py.typed").exists()


def test_the_version_stands_in_one_place_and_its_copy_agrees() -> None:
    import plutus_agent

    assert plutus_agent.__version__ == PROJECT["version"]


def test_the_price_table_is_that_of_the_rate_card() -> None:
    spec = importlib.util.spec_from_file_location("generate_prices", SDK / "generate_prices.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)

    assert (PACKAGE / "prices.json").read_text() == generator.price_table(), "write it anew: make settings"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_runs_on_the_oldest_python_it_promises_and_uses_the_standard_library_only(path: Path) -> None:
    assert PROJECT["requires-python"] == ">=3.10"
    tree = ast.parse(path.read_text(), feature_version=(3, 10))

    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} - {"msvcrt"} <= set(sys.stdlib_module_names) | {"plutus_agent"}
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)], "assert is removed by -O"
    assert len(path.read_text().splitlines()) <= 300


def test_it_is_imported_quietly_and_without_the_modules_of_local_mode() -> None:
    program = "import sys, plutus_agent; sys.exit('sqlite3' in sys.modules)"

    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
