"""What a check of the books found: typed values with a sentence each."""

from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """The kinds of faults; each belongs to one of the five invariants."""

    UNBALANCED = "unbalanced"
    CHAIN_BROKEN = "chain_broken"
    ROW_MISSING = "row_missing"
    KEY_MISSING = "key_missing"
    TAIL_CUT = "tail_cut"
    FIGURES_DIFFER = "figures_differ"
    STATEMENT_BROKEN = "statement_broken"
    BALANCE_DIFFERS = "balance_differs"
    NOT_POSTED = "not_posted"
    SHARD_CLOSED = "shard_closed"
    SUMS_DIFFER = "sums_differ"
    HOLD_OVERDUE = "hold_overdue"
    HOLD_LEFT = "hold_left"
    PRICE_DIFFERS = "price_differs"
    PRICE_UNKNOWN = "price_unknown"
    EVENTS_DIFFER = "events_differ"
    CHECKPOINT_DIFFERS = "checkpoint_differs"
    VAULT_DIFFERS = "vault_differs"
    UNATTRIBUTED_DIFFERS = "unattributed_differs"
    MOVE_DIFFERS = "move_differs"
    DEPOSIT_DIFFERS = "deposit_differs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault: `text` says it in a sentence, `difference` is the money in question in microunits."""

    fault: Fault
    text: str
    shard: int | None = None
    account: int | None = None
    difference: int = 0


@dataclass(slots=True)
class Report:
    """The outcome of a check: what was found, and how much was looked at, by name."""

    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def add(self, fault: Fault, text: str, *, shard: int | None = None, account: int | None = None, difference: int = 0) -> None:
        """Note a fault."""
        self.findings.append(Finding(fault=fault, text=text, shard=shard, account=account, difference=difference))

    def count(self, name: str, number: int = 1) -> None:
        """Note that `number` more of something were looked at."""
        self.checked[name] = self.checked.get(name, 0) + number
