"""Deposits and payments as their payer sees them: the states in words, and how far a payment has come. Pure but for what it is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from control.payment_statuses import ChainLook
from control.web.filters import usdc
from ledger.asides import SENTENCES
from ledger.deposit_reads import PaymentTrace
from ledger.deposit_values import Deposit, Pending
from ledger.entries import AccountId

Tone = Literal["neutral", "good", "attention", "bad"]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
STEPS: Final = ("Sent", "Confirmed", "Final", "Credited")
SENT, CONFIRMED, FINAL, CREDITED = range(len(STEPS))
SHOWN_WHOLE: Final = 16
SHOWN_CHARACTERS: Final = 6
WAYS: Final = {
    "memo": "its memo",
    "inner_memo": "its memo",
    "reference": "its Solana Pay reference",
    "event": "the deposit program",
    "claim": "your claim",
    "operator": "the operator",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositLine:
    """One row of the list of deposits; `named_by` says what brought it to this account."""

    signature: str
    amount: int
    at: datetime
    state: str
    tone: Tone
    sender: str
    named_by: str

    @property
    def signature_short(self) -> str:
        """Enough of the signature to tell it from others at a glance."""
        return shortened(self.signature)

    @property
    def sender_short(self) -> str:
        """The same of the sender's address; a count of several senders as it is."""
        return shortened(self.sender)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one payment has come: `reached` is the last of STEPS that is behind it; `is_over` where nothing more will happen by itself."""

    signature: str
    reached: int
    title: str
    words: str
    tone: Tone = "neutral"
    is_over: bool = False
    claimable: bool = False


def shortened(text: str) -> str:
    """Return the beginning and the end of an address or a signature; a shorter text as it is."""
    return text if len(text) <= SHOWN_WHOLE else f"{text[:SHOWN_CHARACTERS]}…{text[-SHOWN_CHARACTERS:]}"


def deposit_lines(pending: Sequence[Pending], deposits: Sequence[Deposit]) -> list[DepositLine]:
    """Return the rows to show: what is on its way above what came."""
    return [_pending_line(one) for one in pending] + [_deposit_line(one) for one in deposits]


def _pending_line(one: Pending) -> DepositLine:
    at = EPOCH + timedelta(milliseconds=one.seen_at)
    return DepositLine(signature=one.signature, amount=one.amount, at=at, state="On its way", tone="neutral", sender="", named_by="")


def _deposit_line(one: Deposit) -> DepositLine:
    is_credited = one.state == "credited"
    return DepositLine(
        signature=one.signature,
        amount=one.amount,
        at=one.block_time or one.recorded_at,
        state="Credited" if is_credited else "Final, about to be credited",
        tone="good" if is_credited else "neutral",
        sender=one.senders[0] if len(one.senders) == 1 else f"{len(one.senders)} wallets" if one.senders else "",
        named_by=WAYS.get(one.source, one.source),
    )


def progress_of(signature: str, trace: PaymentTrace, look: ChainLook | None, *, account: AccountId, deposit_code: str) -> Progress:
    """Say how far a payment has come, by the books where they know it, else by what a provider says of the chain."""
    if trace.deposit is not None:
        return _of_deposit(trace.deposit, account)
    if trace.move is not None:
        return _of_other_move(signature, trace.move)
    if look is not None and look.failed:
        words = "The network took the transaction, but it failed there. Nothing was paid except the network's fee. Try again."
        return Progress(signature=signature, reached=SENT, title="The payment failed", words=words, tone="bad", is_over=True)
    if look is not None and look.commitment == "finalized":
        return Progress(signature=signature, reached=FINAL, title="The payment is final", words="Solana will not take it back. It is about to be credited.")
    if trace.pending is not None:
        return _of_pending(trace.pending, deposit_code)
    if look is not None and look.commitment == "confirmed":
        return Progress(signature=signature, reached=CONFIRMED, title="The payment is confirmed", words=_waits("It"))
    words = "The network is working on it." if look is not None else "The network has not shown it yet. If it does not within two minutes, nothing was paid."
    return Progress(signature=signature, reached=SENT, title="The payment was sent", words=words)


def _of_deposit(deposit: Deposit, account: AccountId) -> Progress:
    amount = f"{usdc(deposit.amount)} USDC"
    if deposit.state == "aside":
        words = f"{amount} arrived and is safe, but is nobody's yet. {SENTENCES.get(deposit.aside, '')} If you sent it, claim it below."
        return Progress(
            signature=deposit.signature, reached=FINAL, title="The payment names no account", words=words, tone="attention", is_over=True, claimable=True
        )  # fmt: skip
    if deposit.account_id != account:
        words = "It names another account, and was credited there. Ask the operator if that is wrong."
        return Progress(signature=deposit.signature, reached=CREDITED, title="The payment is another account's", words=words, tone="attention", is_over=True)
    if deposit.state == "credited":
        return Progress(
            signature=deposit.signature, reached=CREDITED, title=f"{amount} credited", words="It can be spent now.", tone="good", is_over=True
        )  # fmt: skip
    return Progress(signature=deposit.signature, reached=FINAL, title="The payment is final", words=f"{amount} is about to be credited.")


def _of_pending(pending: Pending, deposit_code: str) -> Progress:
    if pending.deposit_code == deposit_code:
        return Progress(signature=pending.signature, reached=CONFIRMED, title="The payment is confirmed", words=_waits(f"{usdc(pending.amount)} USDC"))
    words = "It does not name this account. When it is final it can be claimed here, unless it names another one."
    return Progress(signature=pending.signature, reached=CONFIRMED, title="The payment is confirmed", words=words, tone="attention")


def _of_other_move(signature: str, move: str) -> Progress:
    words = (
        "It names no account and is too small to be set aside. Ask the operator."
        if move == "dust"
        else "This transaction took money out of the vault. It is no deposit."
    )
    return Progress(signature=signature, reached=FINAL, title="This is no deposit", words=words, tone="attention", is_over=True)


def _waits(what: str) -> str:
    return f"{what} can be spent when Solana has finalized it, usually within half a minute."
