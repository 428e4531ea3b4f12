"""Counters that alarms look at, shown at nought from the start: a series that begins with its first event never rises."""

from collections.abc import Iterable
from typing import Final

from addons.upstream import Provider
from telemetry import metrics

OPERATORS_AFFAIRS: Final = ("key_refused", "out_of_credit", "error_in_answer", "error_in_stream")
UNREAD: Final = ("meter_broken", "unreadable", "error")


def show_alarms(providers: Iterable[Provider]) -> None:
    """Let the series of these providers be there before anything has happened."""
    for provider in providers:
        if not provider.keys:
            continue
        metrics.unpriced_answers_total.labels(provider=provider.name)
        for reason in OPERATORS_AFFAIRS:
            metrics.operator_alarms_total.labels(provider=provider.name, reason=reason)
    for reason in UNREAD:
        metrics.estimated_charges_total.labels(reason=reason)
