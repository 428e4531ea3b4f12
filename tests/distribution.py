"""Which test files may run beside one another, and which follow each other in one process, for they share an appliance.

A whole appliance costs six seconds of a core to start, and is idle while its tests wait. So files whose tests do it no harm share
one, and so do those whose tests harm it and see it heal. These are begun first: they take longest.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

HARMED = "the appliance that is harmed"
SHARED = "the appliance that is shared"
BROWSED = "the appliance that is browsed"
FIRST = (HARMED, SHARED, BROWSED)
GROUPS = {
    "tests/browser/": BROWSED,
    "tests/chain/test_sandbox_chain_faucet.py": SHARED,
    "tests/clients/": SHARED,
    "tests/faults/test_crowds.py": HARMED,
    "tests/faults/test_ingest.py": HARMED,
    "tests/faults/test_processes_killed.py": HARMED,
    "tests/faults/test_stores_lost.py": HARMED,
    "tests/integration/test_commands.py": SHARED,
    "tests/integration/test_deposits_end_to_end.py": SHARED,
    "tests/integration/test_key_commands.py": SHARED,
    "tests/integration/test_plutus_conformance.py": SHARED,
    "tests/integration/test_readme.py": SHARED,
    "tests/integration/test_usage_wire.py": SHARED,
    "tests/sdk/test_meter_end_to_end.py": SHARED,
}


def group_of(nodeid: str) -> str:
    """Return what a test must stay together with: its file, or all files that share an appliance."""
    file = nodeid.partition("::")[0]
    return next((group for beginning, group in GROUPS.items() if file.startswith(beginning)), file)


def longest_first(nodeids: Sequence[str]) -> list[int]:
    """Return the places of the tests in the order in which they are to run: groups are whole, and the long ones come first."""
    ranks = {group: rank for rank, group in enumerate(FIRST)}
    return sorted(range(len(nodeids)), key=lambda place: ranks.get(group_of(nodeids[place]), len(FIRST)))


class Distribution(LoadScopeScheduling):
    """Gives each process a group at a time."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def make_scheduler(config: pytest.Config, log: Any) -> Distribution | None:
    """Return the distribution by groups where files were to stay together anyway."""
    return Distribution(config, log) if config.getoption("dist") == "loadfile" else None
