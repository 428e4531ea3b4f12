"""Which test files may run beside one another, and which follow each other in one process, for they share an appliance.

A whole appliance costs six seconds of a core to start, and is idle while its tests wait. So files whose tests do it no harm share
one, and so do those whose tests harm it and see it heal. These are begun first: they take longest.
"""

from collections.abc import Sequence

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


def groups_of(nodeids: Sequence[str]) -> list[list[int]]:
    """Return the places of the tests of each group, in the order in which the groups are to be begun. Files that make up one group alone are spread."""
    found: dict[str, list[int]] = {}
    for place, nodeid in enumerate(nodeids):
        found.setdefault(group_of(nodeid), []).append(place)
    if len(found) == 1:
        found = {}
        for place, nodeid in enumerate(nodeids):
            found.setdefault(nodeid.partition("::")[0], []).append(place)
    ranks = {group: rank for rank, group in enumerate(FIRST)}
    return [found[group] for group in sorted(found, key=lambda group: ranks.get(group, len(FIRST)))]
