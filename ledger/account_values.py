"""What the journal knows of accounts and tokens, as values."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ledger.entries import AccountId
from ledger.errors import LedgerError

NAME_LENGTH_MAX: Final = 200


def checked_name(name: str | None) -> str | None:
    """Return the name that a person gave to an account, token or key; an empty one is none.

    Raises:
        ValueError: it is not up to 200 printable characters.
    """
    if name is not None and (len(name) > NAME_LENGTH_MAX or not name.isprintable()):
        raise ValueError(f"a name is at most {NAME_LENGTH_MAX} printable characters")
    return name or None


class KeyReused(LedgerError):
    """An idempotency key was given before, for something else; nothing changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A customer's account as the journal has it; amounts in microunits.

    `balance` contains changes that Redis is still owed. `line` is the operator's own overdraft, None where the rule applies.
    """

    id: AccountId
    public_id: str
    shard: int
    name: str | None
    tier: str
    deposit_code: str
    status: str
    line: int | None
    balance: int
    n: int
    charged: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """An account that was just opened, with the one copy of its token."""

    account: Account
    api_token: str
    token_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """A credit in the journal. `balance_after` is the journal's balance then; None for one that was made before.

    `applied` tells whether Redis has it already; else it will when it answers.
    """

    key: str
    amount: int
    balance_after: int | None
    applied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is kept of an api_token. `hint` is the end of its text, None for one that was made before hints were kept."""

    token_id: str
    account_id: AccountId
    digest: str
    name: str | None
    scope: str
    hint: str | None
    created_at: datetime
    revoked_at: datetime | None
