"""What requests count in the metrics: those of a moment together, so that each adds to a few sums and none looks for a metric."""

from collections import Counter as Multiset
from collections import defaultdict
from operator import itemgetter

from ledger.entries import ChargeRecord
from telemetry import metrics
from telemetry.metrics import labelled
from telemetry.tallies import tallies

type Outcome = tuple[str | None, str | None, int | None]  # provider, model and status, as far as there are any
type Closed = tuple[Outcome, float, float | None]  # the outcome, the seconds it took, and of these our own where there was one attempt

_KINDS = ("input", "output", "cache_write", "cache_read")


def count_closed(requests: list[Closed]) -> None:
    """Count requests that have ended."""
    for (provider, model, status), count in Multiset(map(itemgetter(0), requests)).items():
        tallies.count(labelled(metrics.requests_total, provider or "none", model or "none", str(status or "none")), count)
    seconds_by_provider: defaultdict[str, list[float]] = defaultdict(list)
    for (provider, _, _), seconds, _ in requests:
        if provider is not None:
            seconds_by_provider[provider].append(seconds)
    for provider, all_seconds in seconds_by_provider.items():
        tallies.observe_all(labelled(metrics.request_seconds, provider), all_seconds)
    tallies.observe_all(metrics.added_latency_seconds, [added for _, _, added in requests if added is not None])


def count_charges(records: list[ChargeRecord]) -> None:
    """Count what was charged, what of it the providers are owed, and for how many tokens of which kind."""
    money: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    tokens: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for record in records:
        sums = money[record.provider, record.model]
        sums[0] += record.amount
        sums[1] += record.provider_leg
        for line in record.lines:
            sums = tokens[line.provider, record.model]
            sums[0] += line.input_tokens
            sums[1] += line.output_tokens
            sums[2] += (line.cache_write_5m_tokens or 0) + (line.cache_write_1h_tokens or 0)
            sums[3] += line.cache_read_tokens or 0
    for (provider, model), (charged, owed) in money.items():
        tallies.count(labelled(metrics.charges_microunits_total, provider, model), charged)
        tallies.count(labelled(metrics.provider_cost_microunits_total, provider, model), owed)
    for (provider, model), counts in tokens.items():
        for kind, count in zip(_KINDS, counts, strict=True):
            if count:
                tallies.count(labelled(metrics.tokens_total, provider, model, kind), count)
