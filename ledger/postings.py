"""The legs of a transaction and the hash of its row: pure, so that the auditor computes them the same way.

A leg is an account of the chart and a signed amount: positive debits, negative credits.
"""

import hashlib
from dataclasses import dataclass
from json.encoder import encode_basestring as quoted  # as json.dumps writes a text that may hold any character
from typing import Final

from ledger.entries import AccountId, ChargeRecord

Legs = tuple[tuple[str, int], ...]

GENESIS_HEAD: Final = bytes(32)  # what the first row of a shard is chained to
REVENUE: Final = "revenue:markup"
GRANTS: Final = "operator:grants"
DRAWINGS: Final = "operator:drawings"
VAULT: Final = "vault:usdc"
UNATTRIBUTED: Final = "unattributed"
EXTERNAL_USAGE: Final = "external:usage"
CUSTOMER: Final = "customer:"


def customer(account: AccountId) -> str:
    """Return the name of a customer's account in the chart."""
    return f"{CUSTOMER}{account}"


def provider(name: str) -> str:
    """Return the name of a provider's account in the chart: what we owe it."""
    return f"provider:{name}"


def charge_legs(record: ChargeRecord, *, account: AccountId, amount: int) -> Legs:
    """Return the legs of a charge of `amount`: the provider gets list price, the rest is our revenue."""
    return _without_zeros({customer(account): amount, provider(record.provider): -record.provider_leg, REVENUE: record.provider_leg - amount})


def usage_legs(account: AccountId, amount: int) -> Legs:
    """Return the legs of reported usage that cost `amount`: nothing is owed to anybody for it."""
    return _without_zeros({customer(account): amount, EXTERNAL_USAGE: -amount})


def adjustment_legs(exact: ChargeRecord, charged: ChargeRecord | None, *, account: AccountId, amount: int) -> Legs:
    """Return the legs that turn the charge `charged` (None: nothing) into `exact`; `amount` is what the customer pays more.

    The customer's leg is `amount` as it moved the balance; the provider's are the differences at list price.
    """
    legs = {customer(account): amount, provider(exact.provider): -exact.provider_leg}
    if charged is not None:
        legs[provider(charged.provider)] = legs.get(provider(charged.provider), 0) + charged.provider_leg
    legs[REVENUE] = -sum(legs.values())
    return _without_zeros(legs)


def _without_zeros(legs: dict[str, int]) -> Legs:
    return tuple((account, amount) for account, amount in legs.items() if amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One transaction as the journal keeps it. Times are milliseconds since the epoch.

    `detail` is the exact text of what it was about: a ChargeRecord, or the detail of a change.
    """

    kind: str
    key: str
    account: AccountId | None
    legs: Legs
    occurred_at: int
    settled_at: int
    detail: str
    numerator: int = 0
    rate_card: str = ""


def chain(head: bytes, shard: int, *, seq: int, transaction: Transaction) -> bytes:
    """Return the hash of a row: SHA-256 over its predecessor's hash and its canonical form.

    The canonical form is a JSON array in UTF-8 without spaces: form number 1, shard, seq, kind, key, account id,
    occurred_at, settled_at, accounts, amounts, numerator (as text), rate card, detail.
    """
    accounts, amounts = ",".join([quoted(account) for account, _ in transaction.legs]), ",".join([str(amount) for _, amount in transaction.legs])
    form = (
        f"[1,{shard},{seq},{quoted(transaction.kind)},{quoted(transaction.key)},{_number(transaction.account)},{transaction.occurred_at},"
        f'{transaction.settled_at},[{accounts}],[{amounts}],"{transaction.numerator}",{quoted(transaction.rate_card)},{quoted(transaction.detail)}]'
    )
    return hashlib.sha256(head + form.encode()).digest()


def key_digest(key: str) -> bytes:
    """Return the digest under which `journal_keys` knows an idempotency key."""
    return hashlib.sha256(key.encode()).digest()


def body_digest(transaction: Transaction) -> bytes:
    """Return the digest of what a key stands for, without the times: equal for a repeat, different for a conflict.

    Its canonical form is a JSON array as that of `chain`: kind, account id, legs, detail.
    """
    legs = ",".join([f"[{quoted(account)},{amount}]" for account, amount in transaction.legs])
    form = f"[{quoted(transaction.kind)},{_number(transaction.account)},[{legs}],{quoted(transaction.detail)}]"
    return hashlib.sha256(form.encode()).digest()


def _number(account: AccountId | None) -> str:
    return "null" if account is None else str(account)
