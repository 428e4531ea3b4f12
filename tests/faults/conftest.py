"""The appliance to do harm to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.appliance import Appliance, appliance

SETTINGS = {
    "LEVEL5_LEDGER__OVERDRAFT_MAX": "0",
    "LEVEL5_LEDGER__HOLD_TTL_SECONDS": "3",
    "LEVEL5_INGEST__RATE_PER_MINUTE": "0",
    "LEVEL5_TIERS__FREE__TRACKED_TOKENS": "0",
}


@pytest.fixture(scope="session")
def victim(store_home: Path) -> Iterator[Appliance]:
    """An appliance that tests harm one after the other, each leaving it healed; its holds live three seconds, and nobody may go below zero."""
    with appliance(store_home, **SETTINGS) as made:
        yield made
