"""Whom an arrival is for: memos, references, smart wallets; and when a person has to say."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from solders.instruction import Instruction

from chainwatch.deposits import name_account, read_code
from ledger import asides
from ledger.deposit_values import Naming
from tests.fakes.chain_answers import CODE, MEMO_V1, MEMO_V2, OTHER_CODE, PAYER, Inner, Landed, call, key, memo, transfer

AMOUNT = 5_000_000
REFERENCE, OTHER_REFERENCE = key("reference"), key("other reference")
SMART_WALLET = key("smart wallet")

BY_MEMO = Naming(deposit_code=CODE, source="memo")
BY_REFERENCE = Naming(deposit_code=CODE, source="reference")
BY_INNER_MEMO = Naming(deposit_code=CODE, source="inner_memo")
NO_CODE, SEVERAL_CODES, MEMO_IS_NO_CODE = (Naming(aside=one) for one in (asides.NO_CODE, asides.SEVERAL_CODES, asides.MEMO_IS_NO_CODE))


def name(
    *instructions: Instruction, references: Mapping[str, str] | None = None, inner_memo: bool = True, amount: int = AMOUNT, **landed: Any
) -> Naming:  # fmt: skip
    transaction = Landed(instructions=instructions or [transfer()], rows=[], **landed).read()
    return name_account(transaction, references=references or {}, inner_memo=inner_memo, event=None, amount=amount)


def by_smart_wallet(*memos: str | bytes, program: str = MEMO_V2) -> dict[str, Any]:
    """A smart wallet's call that transfers and writes memos."""
    data = [one.encode() if isinstance(one, str) else one for one in memos]
    return {"inner": {0: [Inner(program=program, data=one) for one in data]}, "mentioned": [MEMO_V1, MEMO_V2]}


# One memo.


@pytest.mark.parametrize(
    "text",
    [
        CODE, CODE.lower(), "0123456789aBcDeF", f"  {CODE}\n", f"\t{CODE}\r\n", f"\u00a0{CODE}\u3000", f"level5:{CODE}", f"LEVEL5:{CODE.lower()}",
        f"{CODE}:1", f"level5:{CODE}:0f-x_y.z", f"{CODE}:{'n' * 128}", f"{CODE}:{OTHER_CODE}", f"{CODE}:a:b", f" Level5:{CODE}:7 ",
    ],
)  # fmt: skip
def test_case_02_a_memo_that_is_the_code_names_its_account_in_any_case_and_between_blanks(text: str) -> None:
    assert read_code(text.encode()) == CODE
    assert name(transfer(), memo(text)) == BY_MEMO


@pytest.mark.parametrize("program", [MEMO_V1, MEMO_V2])
@pytest.mark.parametrize("signers", [[], [str(PAYER.pubkey())]])
def test_case_02_the_memo_is_of_either_program_signed_or_not_before_or_after(program: str, signers: list[str]) -> None:
    written = memo(CODE, program=program, signers=signers)

    assert name(transfer(), written) == name(written, transfer()) == BY_MEMO


@pytest.mark.parametrize(
    "text",
    [
        f"{CODE}0", f"0{CODE}", CODE[:-1], f"{CODE} thanks", f"for {CODE}", f"{CODE}:", f"{CODE}: x", f"{CODE}:a b", f"{CODE}:{'n' * 129}", f"{CODE}:\n",
        f"level5: {CODE}", f"level5 {CODE}", f"level6:{CODE}", f":{CODE}", f"level5:level5:{CODE}", f"0x{CODE}", f'"{CODE}"', f"{CODE},{OTHER_CODE}",
        f"{CODE}\n{OTHER_CODE}", f"{CODE}\0", f"\ufeff{CODE}", "012345678 9ABCDEF", "０１２３４５６７８９ＡＢＣＤＥＦ", "٠123456789ABCDEF", "O123456789ABCDEF",
        "", f"{CODE}:é", "hello",
    ],
)  # fmt: skip
def test_case_07_a_memo_that_only_contains_a_code_names_nobody(text: str) -> None:
    assert read_code(text.encode()) is None
    assert name(transfer(), memo(text)) == MEMO_IS_NO_CODE


@pytest.mark.parametrize("raw", [b"\xff" + CODE.encode(), CODE.encode() + b"\x80", CODE.encode("utf-16"), CODE.encode("utf-16-le"), b"\xed\xa0\x80", bytes(16)])
def test_bytes_that_are_no_text_are_no_code(raw: bytes) -> None:
    assert read_code(raw) is None
    assert name(transfer(), memo(raw)) == MEMO_IS_NO_CODE


def test_a_memo_of_another_program_is_none() -> None:
    assert name(transfer(), call(key("not the memo program"), CODE.encode())) == NO_CODE


def test_case_06_a_memo_that_imitates_how_providers_list_memos_names_nobody() -> None:
    assert name(transfer(), memo(f"hi; [16] {CODE}")) == MEMO_IS_NO_CODE
    assert name(transfer(), memo(f"[16] {CODE}")) == MEMO_IS_NO_CODE


def test_a_memo_of_ten_thousand_bytes_is_read_like_any_other() -> None:
    assert name(transfer(), memo(CODE * 625)) == MEMO_IS_NO_CODE
    assert name(transfer(), memo(" " * 9_984 + CODE)) == BY_MEMO
    assert name(transfer(), **by_smart_wallet(CODE + ":" + "n" * 10_000)) == MEMO_IS_NO_CODE


# Several memos.


def test_case_03_the_same_code_twice_is_one() -> None:
    assert name(transfer(), memo(CODE), memo(CODE)) == BY_MEMO
    assert name(memo(CODE.lower(), program=MEMO_V1), transfer(), memo(f"level5:{CODE}:9")) == BY_MEMO


def test_case_04_two_codes_are_set_aside() -> None:
    assert name(transfer(), memo(CODE), memo(OTHER_CODE)) == SEVERAL_CODES
    assert name(memo(OTHER_CODE), transfer(3), memo(CODE), transfer(2), memo(CODE)) == SEVERAL_CODES


def test_other_memos_beside_the_code_do_not_matter() -> None:
    assert name(transfer(), memo("thank you"), memo(CODE), memo(b"\xff")) == BY_MEMO


def test_case_05_without_a_memo_nobody_is_named() -> None:
    assert name(transfer()) == NO_CODE


# References.


def test_case_16_a_reference_among_the_keys_names_the_account() -> None:
    assert name(transfer(AMOUNT, REFERENCE), references={REFERENCE: CODE}) == BY_REFERENCE
    assert name(transfer(AMOUNT, REFERENCE), memo("thank you"), references={REFERENCE: CODE}) == BY_REFERENCE


def test_case_16_a_reference_may_come_from_a_lookup_table() -> None:
    assert name(transfer(AMOUNT, REFERENCE), references={REFERENCE: CODE}, tables=[[REFERENCE]]) == BY_REFERENCE


def test_a_reference_that_is_not_among_the_keys_says_nothing() -> None:
    assert name(transfer(), references={REFERENCE: CODE}) == NO_CODE


def test_a_memo_and_a_reference_that_agree_name_the_account() -> None:
    assert name(transfer(AMOUNT, REFERENCE), memo(CODE), references={REFERENCE: CODE}) == BY_MEMO


def test_case_17_a_memo_against_a_reference_is_set_aside() -> None:
    assert name(transfer(AMOUNT, REFERENCE), memo(CODE), references={REFERENCE: OTHER_CODE}) == Naming(aside=asides.MEMO_AGAINST_REFERENCE)


def test_two_references_of_two_accounts_are_set_aside_and_of_one_are_one() -> None:
    both = transfer(AMOUNT, REFERENCE, OTHER_REFERENCE)

    assert name(both, references={REFERENCE: CODE, OTHER_REFERENCE: OTHER_CODE}) == SEVERAL_CODES
    assert name(both, references={REFERENCE: CODE, OTHER_REFERENCE: CODE}) == BY_REFERENCE
    assert name(both, memo(CODE), references={REFERENCE: CODE, OTHER_REFERENCE: OTHER_CODE}) == SEVERAL_CODES


# Smart wallets.


@pytest.mark.parametrize("program", [MEMO_V1, MEMO_V2])
def test_case_29_the_one_memo_within_a_smart_wallets_call_names_the_account(program: str) -> None:
    assert name(call(SMART_WALLET), **by_smart_wallet(f" level5:{CODE.lower()}:4", program=program)) == BY_INNER_MEMO


def test_case_29_inner_memos_count_only_where_that_is_wanted() -> None:
    assert name(call(SMART_WALLET), **by_smart_wallet(CODE), inner_memo=False) == NO_CODE


def test_several_inner_codes_are_set_aside_and_one_of_them_twice_is_one() -> None:
    assert name(call(SMART_WALLET), **by_smart_wallet(CODE, OTHER_CODE)) == SEVERAL_CODES
    assert name(call(SMART_WALLET), **by_smart_wallet(CODE, "thank you", CODE)) == BY_INNER_MEMO
    assert name(call(SMART_WALLET), **by_smart_wallet("thank you")) == MEMO_IS_NO_CODE


def test_inner_codes_of_different_calls_are_several() -> None:
    inner = {0: [Inner(program=MEMO_V2, data=CODE.encode())], 1: [Inner(program=MEMO_V1, data=OTHER_CODE.encode())]}

    assert name(call(SMART_WALLET), call(SMART_WALLET, b"again"), inner=inner, mentioned=[MEMO_V1, MEMO_V2]) == SEVERAL_CODES


def test_what_the_payer_wrote_himself_counts_before_what_programs_write() -> None:
    assert name(call(SMART_WALLET), memo(CODE), **by_smart_wallet(OTHER_CODE)) == BY_MEMO
    assert name(call(SMART_WALLET), transfer(AMOUNT, REFERENCE), references={REFERENCE: CODE}, **by_smart_wallet(OTHER_CODE)) == BY_REFERENCE
    assert name(call(SMART_WALLET), memo("thank you"), **by_smart_wallet(CODE)) == BY_INNER_MEMO


def test_what_the_payer_left_in_doubt_no_program_decides() -> None:
    assert name(call(SMART_WALLET), memo(CODE), memo(OTHER_CODE), **by_smart_wallet(CODE)) == SEVERAL_CODES


# And the rest.


@pytest.mark.parametrize("amount", [0, -1, -AMOUNT])
def test_where_nothing_arrived_nobody_is_named_and_nothing_set_aside(amount: int) -> None:
    assert name(transfer(), memo(CODE), amount=amount) == Naming()


def test_case_30_a_code_that_belongs_to_nobody_is_still_what_the_transaction_says() -> None:
    assert name(transfer(), memo("FFFFFFFFFFFFFFFF")) == Naming(deposit_code="F" * 16, source="memo")


def test_every_reason_has_a_sentence_for_people() -> None:
    reasons = {value for name, value in vars(asides).items() if name.isupper() and isinstance(value, str)}

    assert reasons == set(asides.SENTENCES)
    assert all(re.fullmatch(r"[A-Z][^\n]{20,}\.", sentence) for sentence in asides.SENTENCES.values())
