"""Values that the hot balances take and give: policies, holds, settlements, standings."""

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

from ledger.entries import AccountId, RequestId
from ledger.money import Microunits
from ledger.tokens import ApiToken, TokenState
from ledger.values import value


@value
class HoldPolicy:
    """Limits of a hold: the lowest overdraft (microunits), holds at once, life, unposted changes of the shard."""

    overdraft_max: int
    concurrent_max: int
    ttl_ms: int
    outbox_max: int


@value
class Standing:
    """An account at one instant; `available` is balance less held, `charged` the sum of all charges ever.

    `status` is `active`, `suspended` or `closed`, or `revoked` where the token that asked is.
    `line` is the operator's own overdraft for this account, None where the rule applies.
    """

    balance: Microunits
    available: Microunits
    held: Microunits
    status: str
    charged: int
    line: int | None
    read_only: ClassVar[bool] = False


@value
class ReadOnlyStanding(Standing):
    """The same, as told to a token that may look and do nothing else."""

    read_only: ClassVar[bool] = True


@value
class Hold:
    """Money set aside for one request, in the epoch of the shard in which it was placed.

    `replaced` tells that a rebuild fell into its life, so that only the journal can tell what was
    charged for this request before.
    """

    token: ApiToken
    request_id: RequestId
    amount: Microunits
    epoch: int
    standing: Standing
    replaced: bool = False


@value
class Settlement:
    """A charge that the hot balances have taken; `seq` is its number in the shard's outbox of `epoch`.

    `repeated` tells that it was taken before; `charge` is then what was taken.
    """

    balance: Microunits
    available: Microunits
    charge: Microunits
    seq: int
    epoch: int
    repeated: bool = False


@value
class Renewal:
    """A sign of life of a hold, with what came back so far; an empty `detail` means nothing did."""

    hold: Hold
    charge: Microunits
    detail: str


@value
class ShardMeta:
    """What Redis knows of a shard; `posted` is how far the journal has got with its outbox."""

    epoch: int
    state: str
    seq: int
    due_seq: int
    posted: int
    instance: str
    mode: str


@value
class OutboxEntry:
    """One change that the hot balances made: `amount` is signed, a charge is negative.

    `n` is None where the balance did not change; `due` is set for applied changes only; `at` in milliseconds.
    """

    seq: int
    kind: str
    key: str
    account: AccountId
    n: int | None
    amount: int
    balance: int
    at: int
    epoch: int
    due: int | None
    detail: str


@value
class AccountRow:
    """One account as a rebuild writes it; `tokens` maps each digest to what it may do, `keys` those of active ingest keys to their ids.

    `month` is the latest in which usage was reported, such as 202611, and `tracked` its tokens; `org` the public id.
    """

    account: AccountId
    balance: int
    n: int
    charged: int
    status: str
    line: int | None = None
    tokens: Mapping[str, TokenState] = field(default_factory=dict)
    tier: str = "free"
    org: str = ""
    funded: bool = False
    month: int = 0
    tracked: int = 0
    keys: Mapping[str, str] = field(default_factory=dict)
