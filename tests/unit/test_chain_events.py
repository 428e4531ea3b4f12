"""The deposit program's event: it names an account for money that arrived, or it is not believed."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from solders.instruction import Instruction

from chainwatch.decode import decode_base58
from chainwatch.deposits import name_account, read_move
from chainwatch.event_authority import derive_event_rules
from chainwatch.events import CALL_TAG, EVENT_TAG, EventReading, EventRules, read_events
from ledger import asides
from ledger.deposit_values import Naming
from tests.fakes.chain_answers import (
    CODE,
    MEMO_V2,
    OTHER_CODE,
    PAYER,
    TOKEN_PROGRAM,
    VAULT,
    Inner,
    Landed,
    call,
    key,
    memo,
    paid,
    transfer,
)

AMOUNT = 5_000_000
PROGRAM, OTHER_PROGRAM = key("deposit program"), key("other program")
RULES = derive_event_rules(PROGRAM, mint=VAULT.mint)
SYSTEM_PROGRAM = "1" * 32
BY_EVENT = Naming(deposit_code=CODE, source="event")
ONE = EventReading(codes=(CODE,), amount=AMOUNT)
NOTHING = EventReading()


def an_event(code: str = CODE, amount: int = AMOUNT, *, mint: str = VAULT.mint) -> bytes:
    keys = bytes(PAYER.pubkey()) + decode_base58(mint)
    return EVENT_TAG + keys + bytes.fromhex(code) + amount.to_bytes(8, "little") + (7 * amount % 2**64).to_bytes(8, "little")


def self_call(event: bytes, *, height: int | None = 2, **changes: Any) -> Inner:
    return replace(Inner(program=PROGRAM, data=CALL_TAG + event, accounts=[RULES.authority], height=height), **changes)


def data(*events: bytes) -> str:
    return "Program data: " + " ".join(base64.b64encode(event).decode() for event in events)


def frame(program: str, *lines: str, depth: int = 1) -> list[str]:
    """What the runtime writes around a call that succeeded."""
    consumed = [f"Program {program} consumed 1200 of 200000 compute units"]
    return [f"Program {program} invoke [{depth}]", *lines, *consumed, f"Program {program} success"]


def token_frame() -> list[str]:
    return frame(TOKEN_PROGRAM, "Program log: Instruction: TransferChecked", depth=2)


def logging(*events: bytes) -> list[str]:
    return frame(PROGRAM, "Program log: Instruction: Deposit", *token_frame(), *(data(event) for event in events))


def deposit_call(program: str = PROGRAM, nonce: bytes = b"") -> Instruction:
    return call(program, b"deposit" + nonce, VAULT.address)


def landed(*instructions: Instruction, **changes: Any) -> Landed:
    mentioned = [PROGRAM, RULES.authority, TOKEN_PROGRAM, MEMO_V2, *changes.pop("mentioned", [])]
    return Landed(instructions=instructions or [deposit_call()], rows=[], mentioned=mentioned, **changes)


def read(*instructions: Instruction, rules: EventRules = RULES, **changes: Any) -> EventReading:
    return read_events(landed(*instructions, **changes).read(), rules)


def name(*instructions: Instruction, amount: int = AMOUNT, references: dict[str, str] | None = None, **changes: Any) -> Naming:
    return name_account(landed(*instructions, **changes).read(), references=references or {}, inner_memo=True, event=RULES, amount=amount)


def test_the_tags_are_those_of_the_framework() -> None:
    assert EVENT_TAG.hex() == "78f83d531f8e6b90"
    assert CALL_TAG.hex() == "e445a52e51cb9a1d"


def test_the_authority_is_derived_from_the_program() -> None:
    assert RULES.program == PROGRAM
    assert RULES.authority != derive_event_rules(OTHER_PROGRAM, mint=VAULT.mint).authority


# One event, in either way.


def test_case_21_an_event_by_log_names_the_account() -> None:
    assert read(logs=logging(an_event())) == ONE
    assert name(logs=logging(an_event())) == BY_EVENT


def test_case_21_an_event_by_the_programs_call_to_itself_names_the_account() -> None:
    inner = {0: [Inner(program=TOKEN_PROGRAM), self_call(an_event())]}

    assert read(inner=inner) == ONE
    assert name(inner=inner, logs=None) == BY_EVENT


def test_case_21_an_event_written_both_ways_counts_once() -> None:
    logs = [*frame(PROGRAM, data(an_event()), *frame(PROGRAM, depth=2))]

    assert read(inner={0: [self_call(an_event())]}, logs=logs) == ONE
    assert name(inner={0: [self_call(an_event())]}, logs=logs) == BY_EVENT


def test_several_events_of_one_account_are_summed() -> None:
    events = [an_event(amount=3), an_event(amount=4)]

    assert read(logs=logging(*events)) == EventReading(codes=(CODE,), amount=7)
    assert read(inner={0: [self_call(one) for one in events]}) == EventReading(codes=(CODE,), amount=7)
    assert name(logs=logging(*events), amount=7) == BY_EVENT


def test_the_program_may_be_called_by_another_program() -> None:
    inner = {0: [Inner(program=PROGRAM), Inner(program=TOKEN_PROGRAM, height=3), self_call(an_event(), height=3)]}
    logs = frame(OTHER_PROGRAM, *frame(PROGRAM, data(an_event()), depth=2))

    assert read(deposit_call(OTHER_PROGRAM), inner=inner) == ONE
    assert read(deposit_call(OTHER_PROGRAM), inner={0: [Inner(program=PROGRAM)]}, logs=logs) == ONE


def test_a_memo_counts_before_the_event_and_one_that_is_no_code_does_not() -> None:
    assert name(deposit_call(), memo(CODE), logs=[*logging(an_event()), *frame(MEMO_V2)]) == Naming(deposit_code=CODE, source="memo")
    assert name(deposit_call(), memo("thanks"), logs=[*logging(an_event()), *frame(MEMO_V2)]) == BY_EVENT


def test_the_event_of_less_than_arrived_names_the_account_for_all_of_it() -> None:
    assert name(logs=logging(an_event(amount=1))) == BY_EVENT


# What is no event for us.


def test_case_22_an_event_of_another_program_is_none() -> None:
    logs = [*frame(PROGRAM), *frame(OTHER_PROGRAM, data(an_event()))]
    inner = {1: [self_call(an_event(), program=OTHER_PROGRAM, accounts=[RULES.authority])]}

    assert read(deposit_call(), deposit_call(OTHER_PROGRAM), logs=logs) == NOTHING
    assert read(deposit_call(), deposit_call(OTHER_PROGRAM), inner=inner, logs=logs) == NOTHING
    assert read(deposit_call(OTHER_PROGRAM), logs=frame(OTHER_PROGRAM, data(an_event()))) == NOTHING
    assert name(deposit_call(OTHER_PROGRAM), logs=frame(OTHER_PROGRAM, data(an_event()))) == Naming(aside=asides.NO_CODE)


def test_data_of_a_program_that_ours_called_is_not_ours() -> None:
    inner = {0: [Inner(program=TOKEN_PROGRAM)]}

    assert read(inner=inner, logs=frame(PROGRAM, *frame(TOKEN_PROGRAM, data(an_event()), depth=2))) == NOTHING


def test_data_outside_of_every_call_is_nobodys() -> None:
    assert read(logs=[data(an_event()), *frame(PROGRAM), data(an_event())]) == NOTHING


@pytest.mark.parametrize("mint", [SYSTEM_PROGRAM, key("fake mint")])
def test_case_28_an_event_about_sol_or_another_token_is_ignored(mint: str) -> None:
    event = an_event(OTHER_CODE, 10**12, mint=mint)

    assert read(logs=logging(event)) == read(inner={0: [self_call(event)]}) == NOTHING
    assert name(logs=logging(event)) == Naming(aside=asides.NO_CODE)
    assert name(logs=logging(event, an_event())) == BY_EVENT


def test_an_event_of_nothing_is_ignored() -> None:
    assert read(logs=logging(an_event(amount=0))) == NOTHING


def test_other_things_that_the_program_logs_are_ignored() -> None:
    others = [data(b"\x01" * 96), data(an_event(), b"more"), "Program data: ", "Program data: %%%", "Program data: é", "Program data: \ud800"]

    assert read(logs=frame(PROGRAM, *others)) == NOTHING
    assert read(logs=frame(PROGRAM, *others, data(an_event()))) == ONE


def test_without_rules_the_program_is_not_heard() -> None:
    transaction = landed(logs=logging(an_event())).read()

    assert name_account(transaction, references={}, inner_memo=True, event=None, amount=AMOUNT) == Naming(aside=asides.NO_CODE)


@pytest.mark.parametrize(
    "inner",
    [
        [self_call(an_event(), accounts=[])],
        [self_call(an_event(), accounts=[TOKEN_PROGRAM])],
        [self_call(an_event(), accounts=[RULES.authority, TOKEN_PROGRAM])],
        [self_call(an_event(), data=an_event())],
        [self_call(an_event(), data=CALL_TAG + b"\x01" * 96)],
        [self_call(an_event(), height=None)],
        [Inner(program=TOKEN_PROGRAM), self_call(an_event(), height=3)],
    ],
    ids=["no authority", "another authority", "further accounts", "no tag", "another event", "no heights", "called by another program"],
)
def test_a_call_that_is_not_the_programs_own_signed_one_is_no_event(inner: Sequence[Inner]) -> None:
    logs = [*frame(PROGRAM, *(frame(PROGRAM, depth=2) if inner[0].program == PROGRAM else frame(TOKEN_PROGRAM, *frame(PROGRAM, depth=3), depth=2)))]

    assert read(inner={0: inner}, logs=logs) == NOTHING


def test_an_event_in_a_call_of_the_message_itself_is_none() -> None:
    instruction = call(PROGRAM, CALL_TAG + an_event(), RULES.authority)

    assert read(instruction, logs=frame(PROGRAM)) == NOTHING


# Who may not be believed.


def test_case_23_an_event_of_more_than_arrived_is_set_aside() -> None:
    assert name(logs=logging(an_event(amount=AMOUNT + 1))) == Naming(aside=asides.EVENT_OVER_CLAIMS)
    assert name(logs=logging(an_event(), an_event(amount=1))) == Naming(aside=asides.EVENT_OVER_CLAIMS)
    assert name(inner={0: [self_call(an_event(amount=2**64 - 1))] * 3}) == Naming(aside=asides.EVENT_OVER_CLAIMS)


def test_case_24_an_event_without_money_is_nothing() -> None:
    transaction = landed(logs=logging(an_event())).read()

    assert read_move(transaction, VAULT) is None
    assert name(logs=logging(an_event()), amount=0) == Naming()


def test_case_25_an_event_in_a_failed_transaction_is_nothing() -> None:
    transaction = replace(landed(transfer(), deposit_call(), logs=logging(an_event()), err="AccountInUse"), rows=paid()).read()

    assert read_move(transaction, VAULT) is None


def test_events_of_two_accounts_are_set_aside() -> None:
    events = [an_event(amount=1), an_event(OTHER_CODE, 1)]

    assert read(logs=logging(*events)) == EventReading(codes=(CODE, OTHER_CODE), amount=2)
    assert name(logs=logging(*events)) == Naming(aside=asides.SEVERAL_CODES)
    assert name(inner={0: [self_call(one) for one in events]}) == Naming(aside=asides.SEVERAL_CODES)


def test_a_memo_or_reference_against_the_event_is_set_aside() -> None:
    logs, against = logging(an_event()), Naming(aside=asides.MEMO_AGAINST_EVENT)

    assert name(deposit_call(), memo(OTHER_CODE), logs=[*logs, *frame(MEMO_V2)]) == against
    assert name(deposit_call(), transfer(1, key("reference")), references={key("reference"): OTHER_CODE}, logs=logs) == against
    assert name(inner={0: [Inner(program=MEMO_V2, data=OTHER_CODE.encode()), self_call(an_event())]}) == against


def test_what_the_payer_left_in_doubt_no_event_decides() -> None:
    assert name(deposit_call(), memo(CODE), memo(OTHER_CODE), inner={0: [self_call(an_event())]}) == Naming(aside=asides.SEVERAL_CODES)


@pytest.mark.parametrize("event", [an_event()[:-1], an_event() + b"\0", EVENT_TAG])
def test_an_event_of_another_shape_is_set_aside(event: bytes) -> None:
    assert name(logs=logging(event)) == name(inner={0: [self_call(event)]}) == Naming(aside=asides.EVENT_UNREADABLE)


def test_case_26_an_event_in_a_log_that_was_cut_off_is_set_aside() -> None:
    cut = [f"Program {PROGRAM} invoke [1]", data(an_event()), "Log truncated", f"Program {PROGRAM} success"]

    assert name(logs=cut) == Naming(aside=asides.LOG_TRUNCATED)
    assert name(logs=None) == Naming(aside=asides.LOG_TRUNCATED)
    assert name(deposit_call(), memo(CODE), logs=cut) == Naming(deposit_code=CODE, source="memo")


def test_case_26_the_programs_call_to_itself_survives_a_log_that_was_cut_off() -> None:
    assert name(inner={0: [self_call(an_event())]}, logs=["Log truncated"]) == BY_EVENT


INJECTED = f"Program {PROGRAM} invoke [1]\n{data(an_event())}\nProgram {PROGRAM} success"


def test_case_27_a_memo_that_writes_an_event_into_the_log_names_nobody() -> None:
    line = f'Program log: Memo (len 9): "x"\n{INJECTED}'

    assert name(transfer(), memo(f"x\n{INJECTED}"), logs=frame(MEMO_V2, line)) == Naming(aside=asides.MEMO_IS_NO_CODE)
    assert name(deposit_call(), memo("x"), logs=[*frame(PROGRAM), *frame(MEMO_V2, line)]) == Naming(aside=asides.LOG_FORGED)
    assert name(deposit_call(), memo("x"), logs=[*logging(an_event()), *frame(MEMO_V2, "Program log: a\rb")]) == Naming(aside=asides.LOG_FORGED)


def test_case_27_nor_where_a_provider_splits_the_log_into_lines() -> None:
    injected = INJECTED.replace("[1]", "[2]").splitlines()
    logs = frame(MEMO_V2, "Program log: Memo (len 9): x", *injected)

    assert name(transfer(), memo("x"), logs=logs) == Naming(aside=asides.MEMO_IS_NO_CODE)
    assert name(deposit_call(), memo("x"), logs=[*frame(PROGRAM), *logs]) == Naming(aside=asides.LOG_FORGED)


@pytest.mark.parametrize(
    "logs",
    [
        [],
        [data(an_event())],
        logging(an_event())[1:],
        logging(an_event())[:-1],
        [*logging(an_event()), f"Program {PROGRAM} success"],
        [*logging(an_event()), *frame(PROGRAM)],
        [f"Program {PROGRAM} invoke [2]", data(an_event()), f"Program {PROGRAM} success"],
        [f"Program {PROGRAM} invoke [1]", data(an_event()), f"Program {OTHER_PROGRAM} success"],
        [f"Program {PROGRAM} invoke [1]", data(an_event()), f"Program {PROGRAM} failed: custom program error: 0x1"],
        frame(OTHER_PROGRAM, *frame(PROGRAM, data(an_event()), depth=3)),
        frame(OTHER_PROGRAM, data(an_event())),
    ],
)
def test_a_log_whose_calls_do_not_nest_or_are_not_those_of_the_transaction_is_set_aside(logs: list[str]) -> None:
    assert name(logs=logs) == Naming(aside=asides.LOG_FORGED)
