"""Appliances to do harm to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.appliance import Appliance, appliance


@pytest.fixture(scope="module")
def running(store_home: Path) -> Iterator[Appliance]:
    """One appliance for the tests of a module that leave it as they found it; nobody may go below zero on it."""
    with appliance(store_home, LEVEL5_LEDGER__OVERDRAFT_MAX="0") as made:
        yield made


@pytest.fixture(scope="module")
def victim(store_home: Path) -> Iterator[Appliance]:
    """An appliance that a module's tests harm one after the other, each leaving it healed; its holds live three seconds."""
    with appliance(store_home, LEVEL5_LEDGER__HOLD_TTL_SECONDS="3") as made:
        yield made
