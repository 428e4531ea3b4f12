"""The gauges of all processes of this machine, read from the folder that they share: for a page that shows how things are."""

import os
from collections.abc import Collection
from pathlib import Path

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from telemetry.metrics import FOLDER_VARIABLE


def read_gauges(names: Collection[str]) -> dict[str, float]:
    """Return these gauges, each added up over its labels and processes; one that no process has set yet is left out.

    Processes that are gone may be among them for a moment: it is the metrics page that forgets them.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    metrics = _of_folder(Path(folder)) if folder else list(REGISTRY.collect())
    return {metric.name: sum(sample.value for sample in metric.samples) for metric in metrics if metric.name in names and metric.samples}


def _of_folder(folder: Path) -> list[Metric]:
    files = [str(file) for file in sorted(folder.glob("gauge_*.db"))]
    return list(MultiProcessCollector.merge(files, accumulate=True))  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
