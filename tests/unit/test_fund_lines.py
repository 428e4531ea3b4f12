"""How far a payment has come, in words: the books count before the chain, and nothing is called paid that is not."""

from datetime import UTC, datetime
from typing import Any

import pytest

from control.dashboard.fund_lines import CONFIRMED, CREDITED, FINAL, SENT, deposit_lines, progress_of, shortened
from control.payment_statuses import ChainLook
from ledger import asides
from ledger.deposit_reads import PaymentTrace
from ledger.deposit_values import Deposit, Pending
from ledger.entries import AccountId

MINE, OTHERS = AccountId(1), AccountId(2)
CODE, OTHER_CODE = "0123456789ABCDEF", "FEDCBA9876543210"
SIGNATURE = "5" * 88
AT = datetime(2026, 5, 4, tzinfo=UTC)


def deposit(state: str = "credited", **changes: Any) -> Deposit:
    terms: dict[str, Any] = {
        "id": 1, "signature": SIGNATURE, "slot": 1, "amount": 1_500_000, "block_time": AT, "senders": ("wallet",), "deposit_code": CODE, "source": "memo",
        "aside": "", "account_id": MINE, "public_id": "acct_1", "state": state, "recorded_at": AT, "credited_at": AT,
    }  # fmt: skip
    return Deposit(**(terms | changes))


def pending(code: str | None = CODE) -> Pending:
    return Pending(signature=SIGNATURE, slot=1, amount=2_000_000, deposit_code=code, seen_at=1_777_852_800_000)


ASIDE = deposit("aside", aside=asides.SEVERAL_CODES, account_id=None)
CASES: tuple[tuple[PaymentTrace, ChainLook | None, int, str, bool], ...] = (
    (PaymentTrace(), None, SENT, "has not shown it yet", False),
    (PaymentTrace(), ChainLook("processed", failed=False), SENT, "working on it", False),
    (PaymentTrace(), ChainLook("confirmed", failed=False), CONFIRMED, "can be spent when Solana has finalized it", False),
    (PaymentTrace(), ChainLook("finalized", failed=False), FINAL, "about to be credited", False),
    (PaymentTrace(), ChainLook("confirmed", failed=True), SENT, "it failed there", True),
    (PaymentTrace(pending=pending()), None, CONFIRMED, "2.00 USDC can be spent when", False),
    (PaymentTrace(pending=pending()), ChainLook("finalized", failed=False), FINAL, "about to be credited", False),
    (PaymentTrace(pending=pending(OTHER_CODE)), None, CONFIRMED, "does not name this account", False),
    (PaymentTrace(pending=pending(None)), None, CONFIRMED, "does not name this account", False),
    (PaymentTrace(deposit=deposit("due", credited_at=None)), ChainLook("finalized", failed=False), FINAL, "1.50 USDC is about to be credited", False),
    (PaymentTrace(deposit=deposit()), None, CREDITED, "can be spent now", True),
    (PaymentTrace(deposit=deposit(account_id=OTHERS)), None, CREDITED, "names another account", True),
    (PaymentTrace(deposit=ASIDE), None, FINAL, "1.50 USDC arrived and is safe, but is nobody's yet. It names several accounts", True),
    (PaymentTrace(move="dust"), None, FINAL, "too small to be set aside", True),
    (PaymentTrace(move="withdrawal"), None, FINAL, "It is no deposit", True),
)


@pytest.mark.parametrize(("trace", "look", "reached", "words", "is_over"), CASES)
def test_every_state_of_a_payment_is_said_in_words(trace: PaymentTrace, look: ChainLook | None, reached: int, words: str, *, is_over: bool) -> None:
    progress = progress_of(SIGNATURE, trace, look, account=MINE, deposit_code=CODE)

    assert (progress.signature, progress.reached, progress.is_over) == (SIGNATURE, reached, is_over)
    assert words in progress.words
    assert progress.claimable == (trace.deposit is ASIDE)


def test_what_is_on_its_way_stands_above_what_came() -> None:
    lines = deposit_lines([pending()], [deposit("due"), deposit(senders=("one", "two"), source="claim"), deposit(senders=(), source="operator")])

    assert [line.state for line in lines] == ["On its way", "Final, about to be credited", "Credited", "Credited"]
    assert [line.sender for line in lines] == ["", "wallet", "2 wallets", ""]
    assert [line.named_by for line in lines] == ["", "its memo", "your claim", "the operator"]
    assert lines[0].at == datetime(2026, 5, 4, tzinfo=UTC)


def test_addresses_are_shortened_to_both_ends_and_short_texts_left_alone() -> None:
    assert shortened("A" * 30 + "B" * 14) == "AAAAAA…BBBBBB"
    assert shortened("2 wallets") == "2 wallets"
