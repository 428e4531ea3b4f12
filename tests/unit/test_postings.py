"""The legs of transactions, the chain, and what a charge looks like on a statement: pure."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.entries import AccountId, ChargeRecord, RequestId, UsageLine
from ledger.money import Microunits
from ledger.postings import GENESIS_HEAD, Transaction, adjustment_legs, body_digest, chain, charge_legs, customer
from ledger.statement_lines import StatementLine, rollup_changes, usage_rows

AT = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
ACCOUNT = AccountId(7)
RECORD = ChargeRecord(
    request_id=RequestId("r"), provider="anthropic", model="m", operation="messages", lines=(UsageLine(provider="anthropic", model="m", input_tokens=5),),
    amount=Microunits(110), provider_leg=Microunits(100), numerator=1, list_numerator=1, rate_card="c", started_at=1,
)  # fmt: skip
amounts = st.integers(0, 2**53 - 1).map(Microunits)
records = st.builds(
    lambda amount, leg, provider: replace(RECORD, amount=amount, provider_leg=leg, provider=provider), amounts, amounts, st.sampled_from(["a", "b"])
)
ROW = Transaction(kind="charge", key="charge:r", account=ACCOUNT, legs=(("x", 1), ("y", -1)), occurred_at=1, settled_at=2, detail="{}")


@given(record=records, charged=st.none() | records, amount=amounts)
@settings(max_examples=200)
def test_legs_sum_to_zero_and_none_is_zero(record: ChargeRecord, charged: ChargeRecord | None, amount: int) -> None:
    for legs in (charge_legs(record, account=ACCOUNT, amount=amount), adjustment_legs(record, charged, account=ACCOUNT, amount=amount)):
        assert sum(leg for _, leg in legs) == 0
        assert all(leg for _, leg in legs)
        assert dict(legs).get(customer(ACCOUNT), 0) == amount


@given(exact=records, charged=records)
@settings(max_examples=200)
def test_a_charge_and_its_adjustment_add_up_to_the_exact_charge(exact: ChargeRecord, charged: ChargeRecord) -> None:
    total: dict[str, int] = {}
    for account, leg in (
        *charge_legs(charged, account=ACCOUNT, amount=charged.amount),
        *adjustment_legs(exact, charged, account=ACCOUNT, amount=exact.amount - charged.amount),
    ):
        total[account] = total.get(account, 0) + leg

    assert {account: leg for account, leg in total.items() if leg} == dict(charge_legs(exact, account=ACCOUNT, amount=exact.amount))


def test_the_hash_depends_on_every_field_the_number_the_shard_and_the_predecessor() -> None:
    variants = [
        chain(GENESIS_HEAD, 1, seq=1, transaction=ROW), chain(GENESIS_HEAD, 2, seq=1, transaction=ROW), chain(GENESIS_HEAD, 1, seq=2, transaction=ROW),
        chain(b"\x01" * 32, 1, seq=1, transaction=ROW),
        *(
            chain(GENESIS_HEAD, 1, seq=1, transaction=replace(ROW, **{name: value}))
            for name, value in (
                ("kind", "adjust"), ("key", "charge:s"), ("account", None), ("legs", (("x", 2), ("y", -2))), ("occurred_at", 9), ("settled_at", 9),
                ("detail", "{ }"), ("numerator", 1), ("rate_card", "d"),
            )
        ),
    ]  # fmt: skip

    assert len(set(variants)) == len(variants)


def test_the_canonical_form_never_changes() -> None:
    """Journals live for years: a hash written by an older program must be computed alike by every later one."""
    form = b'[1,1,5,"charge","charge:r",7,1,2,["x","y"],[1,-1],"0","","{}"]'
    assert chain(GENESIS_HEAD, 1, seq=5, transaction=ROW) == hashlib.sha256(GENESIS_HEAD + form).digest()


def test_a_body_is_the_same_at_another_time_and_another_one_for_another_amount() -> None:
    assert body_digest(ROW) == body_digest(replace(ROW, settled_at=99, occurred_at=98))
    assert body_digest(ROW) != body_digest(replace(ROW, legs=(("x", 2), ("y", -2))))


def test_cache_figures_on_a_line_are_sums_or_unknown_where_nothing_was_reported() -> None:
    lines = (
        UsageLine(provider="p", model="m", input_tokens=1, output_tokens=2, cache_write_5m_tokens=3, cache_read_tokens=0),
        UsageLine(provider="p", model="n", input_tokens=10, output_tokens=20, cache_write_1h_tokens=30),
    )

    def row(record: ChargeRecord | None) -> tuple[object, ...]:
        line = StatementLine(amount=-110, kind="charge", type="DEBIT", created_at=AT, shard=1, seq=2, record=record)
        return line.row(ACCOUNT, 3, balance_after=5)

    assert row(replace(RECORD, lines=lines))[2:] == (-110, 5, "charge", "DEBIT", "r", "anthropic", "m", 11, 22, 33, 0, False, None, None, AT, 1, 2)
    assert row(RECORD)[9:14] == (5, 0, None, None, False)
    assert row(None)[6:16] == (None, None, None, None, None, None, None, False, None, None)


def test_the_whole_charge_stands_on_the_first_usage_event_and_a_replaced_one_is_taken_away() -> None:
    two = replace(RECORD, lines=(*RECORD.lines, UsageLine(provider="anthropic", model="n", output_tokens=4)))

    assert [row[12] for row in usage_rows(two, shard=1, account=ACCOUNT, occurred_at=AT, settled_at=AT, seq=1)] == [110, 0]
    hour = AT.replace(minute=0, second=0)
    assert list(rollup_changes(two, replace(RECORD, amount=Microunits(60), provider_leg=Microunits(50)), shard=1, account=ACCOUNT, settled_at=AT)) == [
        ((1, 7, hour, "anthropic", "m"), (1, 5, 0, 0, 0, 110, 100, 0)),
        ((1, 7, hour, "anthropic", "n"), (0, 0, 4, 0, 0, 0, 0, 0)),
        ((1, 7, hour, "anthropic", "m"), (-1, -5, 0, 0, 0, -60, -50, 0)),
    ]


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=5, max_size=5), account=st.none() | st.just(ACCOUNT), amount=amounts)
@settings(max_examples=200)
def test_the_canonical_forms_are_json_whatever_the_texts_hold(texts: list[str], account: AccountId | None, amount: int) -> None:
    kind, key, leg, card, detail = texts
    row = Transaction(
        kind=kind, key=key, account=account, legs=((leg, amount), (customer(ACCOUNT), -amount)), occurred_at=1, settled_at=2, detail=detail,
        numerator=10**20, rate_card=card,
    )  # fmt: skip

    form = [1, 5, 3, kind, key, account, 1, 2, [leg, customer(ACCOUNT)], [amount, -amount], str(10**20), card, detail]

    def digest(before: bytes, content: object) -> bytes:
        return hashlib.sha256(before + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()).digest()

    assert chain(GENESIS_HEAD, 5, seq=3, transaction=row) == digest(GENESIS_HEAD, form)
    assert body_digest(row) == digest(b"", [kind, account, row.legs, detail])
