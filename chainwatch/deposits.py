"""What a transaction did to the vault, and whom it names: pure.

Money comes from the vault's own balance alone. Memos, references and events only name the account for it; they are never
added up, never guessed at, and where two of them disagree a person decides.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from chainwatch.decode import ConfirmedTransaction, Instruction, TokenBalance
from chainwatch.events import EventReading, EventRules, read_events
from chainwatch.unreadable import Unreadable
from ledger import asides
from ledger.deposit_values import Naming, Vault

__all__ = ["EventRules", "VaultChange", "name_account", "read_code", "read_move"]

MEMO_PROGRAMS: Final = frozenset(("Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo", "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"))

# A nonce makes two equal payments two transactions; it is never read, even where it looks like a code.
_MEMO: Final = re.compile(r"(?:level5:)?([0-9a-f]{16})(?::[!-~]{1,128})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultChange:
    """The vault's balance before and after a transaction, in microunits.

    `senders` are the owners of the accounts of the vault's mint that fell in it, sorted, each once; never the vault itself.
    """

    pre: int
    post: int
    senders: tuple[str, ...]

    @property
    def amount(self) -> int:
        """What the vault gained; below zero what left it."""
        return self.post - self.pre


def read_move(transaction: ConfirmedTransaction, vault: Vault) -> VaultChange | None:
    """Return how the transaction changed the vault's balance; None where it failed or left the balance as it was.

    Raises:
        Unreadable: the vault's row is of another mint or token program or does not tell it; money arrived in it for another
            owner; or an account fell whose owner is not told, so that the senders would not be all of them.
    """
    if transaction.meta.failed:
        return None
    pre = {row.account: row for row in transaction.meta.pre}
    post = {row.account: row for row in transaction.meta.post}
    before, after = _held(pre.get(vault.address), vault), _held(post.get(vault.address), vault)
    if before == after:
        return None
    if after > before and post[vault.address].owner not in (vault.owner, None):
        raise Unreadable("the vault belonged to another owner when money arrived")
    fell = (row for row in pre.values() if row.mint == vault.mint and row.account != vault.address and _fell(row, post))
    return VaultChange(pre=before, post=after, senders=tuple(sorted({_owner(row) for row in fell})))


def name_account(
    transaction: ConfirmedTransaction, *, references: Mapping[str, str], inner_memo: bool, event: EventRules | None, amount: int
) -> Naming:  # fmt: skip
    """Return whom an arrival of `amount` is for; a Naming without anything where nothing arrived.

    `references` has the deposit codes of those of the transaction's keys that are Solana Pay references. Memos of the message
    itself and references come first; where they name nobody, the one memo among inner instructions if `inner_memo` allows it;
    then the deposit program's event if there are rules for one. Whether the code belongs to an account is not known here.
    """
    if amount <= 0:
        return Naming()
    spoken = _name_by_payer(transaction, references)
    if inner_memo and not spoken.deposit_code and spoken.aside in (asides.NO_CODE, asides.MEMO_IS_NO_CODE):
        spoken = _name_by_inner_memo(transaction, otherwise=spoken)
    return spoken if event is None else _hear_event(spoken, read_events(transaction, event), amount=amount)


def read_code(memo: bytes) -> str | None:
    """Return the deposit code, in upper case, that is all a memo says: `[level5:]CODE[:nonce]`; None for any other memo."""
    try:
        found = _MEMO.fullmatch(memo.decode().strip())
    except UnicodeDecodeError:
        return None
    return found[1].upper() if found else None


def _name_by_payer(transaction: ConfirmedTransaction, references: Mapping[str, str]) -> Naming:
    """Name the account by what the message itself carries."""
    memos = _memos(transaction.wire.instructions)
    written = _codes(memos)
    referred = {references[key] for key in transaction.wire.keys if key in references}
    if len(written) > 1 or len(referred) > 1:
        return Naming(aside=asides.SEVERAL_CODES)
    if written and referred and written != referred:
        return Naming(aside=asides.MEMO_AGAINST_REFERENCE)
    if written:
        return Naming(deposit_code=written.pop(), source="memo")
    if referred:
        return Naming(deposit_code=referred.pop(), source="reference")
    return Naming(aside=asides.MEMO_IS_NO_CODE if memos else asides.NO_CODE)


def _name_by_inner_memo(transaction: ConfirmedTransaction, *, otherwise: Naming) -> Naming:
    """Name the account by a memo that a program wrote, as smart wallets do on behalf of the payer."""
    memos = _memos(instruction for _, group in transaction.meta.inner for instruction in group)
    written = _codes(memos)
    if len(written) > 1:
        return Naming(aside=asides.SEVERAL_CODES)
    if written:
        return Naming(deposit_code=written.pop(), source="inner_memo")
    return Naming(aside=asides.MEMO_IS_NO_CODE) if memos else otherwise


def _hear_event(spoken: Naming, reading: EventReading, *, amount: int) -> Naming:
    """Let the event name the account where nothing else did; never let it name another one."""
    if spoken.deposit_code:
        return Naming(aside=asides.MEMO_AGAINST_EVENT) if set(reading.codes) - {spoken.deposit_code} else spoken
    if spoken.aside not in (asides.NO_CODE, asides.MEMO_IS_NO_CODE):
        return spoken
    if reading.aside:
        return Naming(aside=reading.aside)
    if not reading.codes:
        return spoken
    if len(reading.codes) > 1:
        return Naming(aside=asides.SEVERAL_CODES)
    if reading.amount > amount:
        return Naming(aside=asides.EVENT_OVER_CLAIMS)
    return Naming(deposit_code=reading.codes[0], source="event")


def _memos(instructions: Iterable[Instruction]) -> list[bytes]:
    return [instruction.data for instruction in instructions if instruction.program in MEMO_PROGRAMS]


def _codes(memos: Iterable[bytes]) -> set[str]:
    return {code for code in map(read_code, memos) if code}


def _held(row: TokenBalance | None, vault: Vault) -> int:
    if row is None:
        return 0
    if row.mint != vault.mint or row.program != vault.token_program:
        raise Unreadable("the vault is told to be of another mint or token program")
    return row.amount


def _fell(row: TokenBalance, post: Mapping[str, TokenBalance]) -> bool:
    after = post.get(row.account)
    return row.amount > (after.amount if after and after.mint == row.mint else 0)


def _owner(row: TokenBalance) -> str:
    if row.owner is None:
        raise Unreadable("the owner of an account that fell is not told")
    return row.owner
