"""A package whose own imports are left out until somebody needs them."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from config.bare_packages import open_bare


@pytest.fixture
def laden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a package that imports much, inside another one."""
    folder = tmp_path / "cart" / "laden"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("from cart.laden import heavy\n\ndef all_of_it():\n    return heavy.WEIGHT\n")
    (folder / "heavy.py").write_text("WEIGHT = 100\n")
    (folder / "light.py").write_text("WEIGHT = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "cart.laden"
    for name in [name for name in sys.modules if name.partition(".")[0] == "cart"]:
        del sys.modules[name]


def test_a_part_is_imported_without_the_rest_of_its_package(laden: str) -> None:
    open_bare(laden)

    assert import_module(f"{laden}.light").WEIGHT == 1
    assert f"{laden}.heavy" not in sys.modules
    with pytest.raises(ImportError):
        exec("from cart.laden import all_of_it")


def test_whoever_asks_for_what_needs_the_rest_gets_it(laden: str) -> None:
    open_bare(laden, whole_for=("all_of_it",))
    light = import_module(f"{laden}.light")

    assert import_module(laden).all_of_it() == 100
    assert import_module(f"{laden}.light") is light
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = import_module(laden).nothing


def test_a_package_that_was_imported_whole_stays_so(laden: str) -> None:
    whole = import_module(laden)

    open_bare(laden)

    assert import_module(laden) is whole
    assert whole.all_of_it() == 100


def test_a_package_that_is_not_there_is_missed_by_name() -> None:
    with pytest.raises(ModuleNotFoundError, match="no package named 'cartless'"):
        open_bare("cartless")
