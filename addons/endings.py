"""How a request that was sent has ended, and what that costs: the table of endings as one pure function."""

from ledger.values import value
from metering.usage import Ending, Reading, Usage


@value
class Facts:
    """What happened to one request. `status` is the provider's, None when no answer began."""

    sent: bool
    status: int | None
    reading: Reading | None
    broken: bool
    client_left: bool
    read_on_over: bool


@value
class Verdict:
    """Charge `usage`, or the whole hold where nothing is known, or nothing. `reason` is a constant word for logs and metrics."""

    reason: str
    usage: Usage | None = None
    whole_hold: bool = False
    estimated: bool = False

    @property
    def charged(self) -> bool:
        """True when the ending costs something."""
        return self.usage is not None or self.whole_hold


def judge(facts: Facts) -> Verdict:
    """Return what an ending costs.

    A usage that was seen always wins. The whole hold is charged only where the provider has certainly worked
    and nothing else is known: our own meter failed, or the client left and the answer did not end in time.
    """
    if not facts.sent and facts.status is None:
        return Verdict(reason="not_sent")
    reading = facts.reading
    if (exact := judge_usage(reading)) is not None:
        return exact
    if facts.status is not None and facts.status >= 300:
        return Verdict(reason="provider_error")
    if facts.broken:
        return Verdict(reason="meter_broken", whole_hold=True, estimated=True)
    if reading is not None and reading.estimated is not None:
        return Verdict(reason=_why_estimated(facts, reading), usage=reading.estimated, estimated=True)
    if facts.client_left and facts.read_on_over:
        return Verdict(reason="client_left", whole_hold=True, estimated=True)
    if facts.status is None:
        return Verdict(reason="no_answer")
    if reading is not None and reading.ended is Ending.ERROR:
        return Verdict(reason="provider_error")
    if reading is not None and reading.ended is Ending.UNREADABLE:
        return Verdict(reason="unreadable", whole_hold=True, estimated=True)
    return Verdict(reason="no_output")


def judge_usage(reading: Reading | None) -> Verdict | None:
    """Return what the ending of a request that was sent costs where its usage was seen, which wins over all else; None where it was not."""
    return Verdict(reason="usage", usage=reading.usage) if reading is not None and reading.usage is not None else None


def _why_estimated(facts: Facts, reading: Reading) -> str:
    if facts.client_left:
        return "client_left"
    return {Ending.CUT: "cut", Ending.ERROR: "error", Ending.UNREADABLE: "unreadable", Ending.COMPLETE: "unreadable"}[reading.ended]
