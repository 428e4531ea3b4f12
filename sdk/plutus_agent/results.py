"""What became of one tracked call."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackResult:
    """What became of one tracked call.

    `recorded` is False where nothing was charged: a hard stop of the tier (`over_free_limit`) or of the
    prepaid balance (`over_balance`). `queued` means that the event lies safely in the spool and is sent
    in the background; cost and balance are not known then. The amounts are exact in microunits
    (10⁻⁶ USD); `cost_usd` and `balance_after` show the same as floats.
    """

    event_id: str
    org_id: str
    provider: str
    model: str | None
    task_type: str
    workspace_id: str | None = None
    cost_usd: float = 0.0
    cost_microunits: int = 0
    estimated: bool = True
    balance_after: float = 0.0
    balance_after_microunits: int = 0
    alerts: list[dict[str, str]] = field(default_factory=list)
    baseline_usd: float | None = None
    savings_usd: float = 0.0
    optimal_usd: float | None = None
    leaked_usd: float = 0.0
    external_ref: str | None = None
    recorded: bool = True
    over_free_limit: bool = False
    over_balance: bool = False
    unpriced: bool = False
    workspace_folded: bool = False
    tracked_tokens_mtd: int | None = None
    tracked_limit: int | None = None
    tier: str | None = None
    upgrade_url: str | None = None
    idempotent_replay: bool = False
    queued: bool = False
