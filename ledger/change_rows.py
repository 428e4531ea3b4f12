"""Changes that the journal makes and Redis is owed: one shape, written once here, whoever makes them.

The detail of a change holds all of it: an account, a token or a credit can be made again from it when an
older journal is restored. Kinds: open, token, revoke, status, line, tier, key, key_revoke, workspace, budget,
credit, deposit; late charges (charge, adjust) bring their journal row with them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ledger.entries import AccountId
from ledger.journal import AccountFigures, JournalWriter
from ledger.moments import moment
from ledger.postings import Transaction, customer
from ledger.queries import SQL
from ledger.tokens import TokenScope

MONEY_IN: Final = ("credit", "deposit")  # what makes an account one that ever had money


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change: `amount` is what the customer's balance gains, `fields` what Redis sets on the account.

    `detail` has `kind`, `created_at` (milliseconds) and what `kind` needs. `journal_seq` is set where the journal row exists already.
    """

    account: AccountId
    key: str
    amount: int
    fields: Mapping[str, str]
    detail: Mapping[str, Any]
    journal_seq: int | None = None

    @property
    def text(self) -> str:
        """The detail as it is stored and sent: sorted keys, no spaces."""
        return json.dumps(self.detail, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def transaction(self) -> Transaction:
        """The journal row of the change; without legs where no money moves."""
        at = int(self.detail["created_at"])
        legs = ((self.detail["house"], self.amount), (customer(self.account), -self.amount)) if self.amount else ()
        return Transaction(kind=self.detail["kind"], key=self.key, account=self.account, legs=legs, occurred_at=at, settled_at=at, detail=self.text)


async def record_change(writer: JournalWriter, shard: int, change: Change) -> tuple[int, int]:
    """Write a change, what it does to accounts and tokens, and the row that says Redis is owed it.

    Returns its number among the shard's due changes and that of its journal row.
    """
    await _take_effect(writer, shard, change)
    fields = dict(change.fields)
    if change.amount > 0 and change.detail["kind"] in MONEY_IN:
        await writer.connection.execute(SQL["set_funded"], change.account)
        fields["funded"] = "1"
    journal_seq = change.journal_seq if change.journal_seq is not None else writer.add_transaction(shard, change.transaction)
    position = writer.positions[shard]
    position.due_seq += 1
    at = moment(int(change.detail["created_at"]))
    await writer.connection.execute(
        SQL["insert_due"], shard, position.due_seq, change.account, change.key, change.amount, json.dumps(fields), change.text, journal_seq, at
    )
    return position.due_seq, journal_seq


async def _take_effect(writer: JournalWriter, shard: int, change: Change) -> None:
    connection, detail, account = writer.connection, change.detail, change.account
    at = moment(int(detail["created_at"]))
    match detail["kind"]:
        case "open":
            await connection.execute(SQL["insert_account"], account, detail["public_id"], shard, detail["name"], detail["tier"], detail["deposit_code"], at)
            await _insert_token(writer, account, {**detail, "name": None})
            writer.figures[account] = AccountFigures(id=account, balance=0, n=0, statement_balance=0, charged=0, active_at=at)
        case "token":
            await _insert_token(writer, account, detail)
        case "revoke":
            await connection.execute(SQL["revoke_token"], detail["token_id"], at)
        case "status":
            await connection.execute(SQL["set_status"], account, detail["status"])
        case "line":
            await connection.execute(SQL["set_line"], account, detail["line"])
        case "tier":
            await connection.execute(SQL["set_tier"], account, detail["tier"])
        case "key":
            await connection.execute(SQL["insert_key"], detail["key_id"], account, detail["digest"], detail["name"], detail["prefix"], at)
        case "key_revoke":
            await connection.execute(SQL["revoke_key"], detail["key_id"], at)
        case "workspace":
            await connection.execute(SQL["insert_workspace"], detail["workspace_id"], account, detail["name"], detail["slug"], at)
        case "budget":
            await connection.execute(SQL["set_budget"], detail["workspace_id"], account, detail["budget"])
        case "deposit":
            # A page that is being recorded looks for its credits behind the same lock: one of the two sees the other.
            await connection.fetchrow(SQL["share_vault"], detail["genesis"], detail["vault"])
            await connection.execute(SQL["mark_credited"], change.key, account, detail["source"], detail["actor"], at)
        case "credit" | "charge" | "adjust":
            return  # the journal row is the whole effect
        case kind:
            raise ValueError(f"unknown kind of change {kind!r}")


async def _insert_token(writer: JournalWriter, account: AccountId, detail: Mapping[str, Any]) -> None:
    """Write a token's row; a change that was made before tokens had a scope says nothing of it."""
    scope, at = detail.get("scope", TokenScope.FULL), moment(int(detail["created_at"]))
    await writer.connection.execute(SQL["insert_token"], detail["token_id"], account, detail["digest"], detail["name"], at, scope, detail.get("hint"))
