"""The distribution: what it owns, what it ships, and that its names collide with nobody's."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DISTRIBUTION = PROJECT["project"]["name"]
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
OWNERS = packages_distributions()


def test_every_folder_with_code_of_ours_is_a_listed_package() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}

    assert folders == {name for name in PACKAGES if "." not in name}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_name_belongs_to_this_distribution_alone(package: str) -> None:
    assert set(OWNERS.get(package, [DISTRIBUTION])) == {DISTRIBUTION}
    assert package not in sys.stdlib_module_names


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_typed_and_its_init_is_only_a_docstring(package: str) -> None:
    folder = ROOT / package.replace(".", "/")
    body = ast.parse((folder / "__init__.py").read_text()).body

    assert (folder / "py.typed").exists() or "." in package
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value, ast.Constant)


def test_no_folder_of_the_tests_bears_the_name_of_a_package() -> None:
    folders = {path.name for path in (ROOT / "tests").rglob("*") if path.is_dir()}

    assert not folders & set(PACKAGES)


def test_no_file_of_the_data_plane_bears_the_name_of_a_package_or_of_the_standard_library() -> None:
    # mitmdump puts the folder of its script on the path, where such a file would hide the real one.
    names = {path.stem for path in (ROOT / "addons").glob("*.py")} - {"__init__", "__main__"}

    assert not names & (set(PACKAGES) | set(sys.stdlib_module_names))


def test_the_locks_hold_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text
        assert "index-url" not in text


def test_the_lock_for_work_holds_the_very_releases_of_the_lock_for_use() -> None:
    def pins(name: str) -> set[str]:
        return {line.split(" ;")[0].removesuffix(" \\") for line in (ROOT / name).read_text().splitlines() if "==" in line and not line.startswith((" ", "#"))}

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_no_module_checks_anything_with_assert() -> None:
    # Workers run with -O, which removes the check.
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            found = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
            assert not found, f"{path}: assert in line {found}"
