"""A charge taken apart comes to the charge, whatever was used."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from config.rate_card import load_rate_card
from ledger.entries import ChargeRecord, RequestId, UsageLine
from ledger.ingest_values import UsageItem
from ledger.money import Microunits
from metering.itemised import itemise, itemise_report
from metering.pricing import charge_record, price_record
from metering.reported import ReportedPricer
from metering.savings import CachedTokens, cache_saving

CARD = load_rate_card(None)
RATES = [rate for rate in CARD.all() if rate.kind == "text"]
counts = st.one_of(st.just(0), st.integers(0, 10**6))


@st.composite
def records(draw: st.DrawFn) -> ChargeRecord:
    rate = draw(st.sampled_from(RATES))
    tiers = [None, *rate.service_tiers]
    lines = tuple(
        UsageLine(
            provider=rate.provider, model=draw(st.sampled_from([rate.model, rate.provider_model, "an-unknown-answer"])), input_tokens=draw(counts),
            output_tokens=draw(counts), cache_write_5m_tokens=draw(st.none() | counts), cache_write_1h_tokens=draw(st.none() | counts),
            cache_read_tokens=draw(st.none() | counts), input_audio_tokens=draw(counts), output_audio_tokens=draw(counts),
            service_tier=draw(st.sampled_from(tiers)), fees=tuple((name, draw(st.integers(0, 9))) for name in rate.fees),
        )
        for _ in range(draw(st.integers(1, 3)))
    )  # fmt: skip
    record, _ = charge_record(RequestId("r"), lines, card=CARD, requested=rate, operation="messages", started_at=1_760_000_000_000)
    return record


@given(records())
def test_the_items_of_a_charge_come_to_the_charge(record: ChargeRecord) -> None:
    itemised, price = itemise(record, CARD), price_record(record, CARD)

    assert (itemised.numerator, itemised.amount) == (price.numerator, price.amount) == (record.numerator, record.amount)
    assert itemised.numerator == sum(item.count * item.rate * (1_000_000 if item.is_fee else 1) for line in itemised.lines for item in line.items)


@given(
    st.sampled_from([*(rate.model for rate in RATES[:20]), "nobody-knows-it"]), st.booleans(), *(st.integers(0, 300_000) for _ in range(5)),
)  # fmt: skip
def test_the_items_of_an_estimate_come_to_the_estimate(model: str, markup: bool, put: int, out: int, thought: int, written: int, read: int) -> None:
    event = UsageItem(
        line=0, provider=RATES[0].provider, model=model, task_type="t", source="api", occurred_at=1_760_000_000_000, input_tokens=put, output_tokens=out,
        reasoning_tokens=thought, cache_write_tokens=written, cache_write_1h_tokens=written // 3, cache_read_tokens=read,
    )  # fmt: skip
    pricer = ReportedPricer(CARD, with_markup=markup)

    cost = pricer.estimate(
        event.provider, model, at_ms=event.occurred_at, input_tokens=put, output_tokens=out + thought, cache_write_tokens=written,
        cache_write_1h_tokens=written // 3, cache_read_tokens=read,
    ).cost  # fmt: skip

    assert itemise_report(event, pricer).amount == cost


def test_a_record_keeps_what_was_held_and_one_without_reads_as_before() -> None:
    record, _ = charge_record(RequestId("r"), (), card=CARD, requested=RATES[0], operation="messages", started_at=1, hold=77)

    assert ChargeRecord.from_json(record.to_json()) == record
    assert '"hold":77' in record.to_json()
    assert "hold" not in replace(record, hold=0).to_json()
    assert ChargeRecord.from_json(replace(record, hold=0).to_json()).hold == 0


def test_reading_from_a_cache_saves_and_writing_to_it_costs() -> None:
    def saving(**tokens: int) -> int | None:
        given = {"write_tokens": 0, "write_1h_tokens": 0, "read_tokens": 0} | tokens
        return cache_saving(CachedTokens(provider="anthropic", model="claude-sonnet-4-6", reported=False, **given), CARD, reported_markup=False)

    read, written, longer = saving(read_tokens=10**6), saving(write_tokens=10**6), saving(write_tokens=10**6, write_1h_tokens=10**6)

    assert read is not None
    assert written is not None
    assert longer is not None
    assert (read > 0, longer < written < 0) == (True, True)
    assert read == Microunits(2_970_000)  # 3.00 less 0.30 USD at list, with a tenth on top
    unknown = CachedTokens(provider="nobody", model="m", reported=True, write_tokens=0, write_1h_tokens=0, read_tokens=1)
    assert cache_saving(unknown, CARD, reported_markup=False) is None
