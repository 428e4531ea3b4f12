"""The record of a charge: one canonical form that reads back as itself."""

import json
import re
from dataclasses import asdict, replace

import pytest

from ledger.entries import ChargeRecord, RequestId, UsageLine, object_digest
from ledger.money import Microunits


def a_record() -> ChargeRecord:
    line = UsageLine(provider="anthropic", model="claude-sonnet-4-6", input_tokens=15, output_tokens=25, cache_read_tokens=120, fees=(("web_search", 2),))
    return ChargeRecord(
        request_id=RequestId("0199"),
        provider="anthropic",
        model="claude-sonnet-4-6",
        operation="messages",
        lines=(line,),
        amount=Microunits(502),
        provider_leg=Microunits(456),
        numerator=501_600_000,
        list_numerator=456_000_000,
        rate_card="00ff",
        started_at=1_700_000_000_000,
    )


def test_a_record_reads_back_as_itself() -> None:
    record = a_record()

    assert ChargeRecord.from_json(record.to_json()) == record


def test_equal_records_are_equal_bytes() -> None:
    assert a_record().to_json() == a_record().to_json()


def test_the_canonical_form_has_every_field_in_order() -> None:
    record = replace(a_record(), made=(object_digest("resp_1"), object_digest("msg_1")), hold=9_000)

    assert record.to_json() == json.dumps(asdict(record), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert ChargeRecord.from_json(record.to_json()) == record


def test_a_record_of_an_answer_that_left_nothing_is_written_as_before_such_things_were_noted() -> None:
    fields = asdict(a_record())

    assert (fields.pop("made"), fields.pop("hold")) == ((), 0)
    assert a_record().to_json() == json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_the_digest_of_an_object_is_short_and_fit_for_a_key() -> None:
    digests = {object_digest(f"resp_{number}") for number in range(1000)}

    assert len(digests) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{16}", digest) for digest in digests)


@pytest.mark.parametrize("text", ["{}", '{"lines": []}', "[]", "null", "{"])
def test_a_text_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ChargeRecord.from_json(text)
