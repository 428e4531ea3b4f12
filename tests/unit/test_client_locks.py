"""The locks of the clients that tests drive: hashes for everything, addresses of nothing."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "clients"
LOCKS = sorted((FOLDER / "requirements").glob("*.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_python_package_has_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text()

    packages = [block for block in text.split("\n") if "==" in block]
    assert packages
    assert all(line.endswith(" \\") for line in packages)
    assert "://" not in text
    assert lock.with_suffix(".in").exists()


def test_every_npm_package_has_a_hash_and_no_address() -> None:
    lock = json.loads((FOLDER / "npm" / "package-lock.json").read_text())

    installed = {name: package for name, package in lock["packages"].items() if name}
    assert not any("resolved" in package for package in installed.values())
    assert all("integrity" in package for package in installed.values())
