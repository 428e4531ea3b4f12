"""What operators read names every setting and metric, and only those that exist."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from config.settings import Settings
from config.sources import environment_name, walk_fields
from ledger.findings import Fault
from telemetry import metrics

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]
METRICS = {one._name + ("_total" if one._type == "counter" else "") for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)}


def test_every_setting_is_in_the_operations_document() -> None:
    for path, field in walk_fields(Settings):
        assert f"| `{environment_name(path)}` |" in OPERATIONS
        assert str(field.description) in OPERATIONS


def test_every_metric_is_in_the_operations_document() -> None:
    for name in METRICS:
        assert f"| `{name}` |" in OPERATIONS


def test_every_finding_of_verify_is_in_the_operations_document() -> None:
    missing = [fault.value for fault in Fault if f"`{fault.value}`" not in OPERATIONS]

    assert missing == []


@pytest.mark.parametrize("name", ["deploy/grafana/level5.json", "deploy/prometheus/alerts.yml", "docs/operations.md"])
def test_only_metrics_that_exist_are_watched(name: str) -> None:
    text = (ROOT / name).read_text()
    endings = "total|seconds|microunits|depth|open|closed|findings"
    found = re.findall(rf"level5_[a-z_]+_(?:{endings})(?:_bucket|_sum|_count)?\b", text)
    named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}

    assert named
    assert named <= METRICS


def test_the_dashboard_is_json() -> None:
    assert len(json.loads((ROOT / "deploy/grafana/level5.json").read_text())["panels"]) > 10


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "deploy").rglob("*.md")), ids=lambda path: path.name
)
def test_no_link_leads_nowhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs/decisions").glob("*.md"))

    assert numbers == list(range(1, len(numbers) + 1))
