"""Reading transactions: strictly from the bytes, strictly from what a provider says, and what it did to the vault."""

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chainwatch.base58 import decode_exactly
from chainwatch.decode import Unreadable, decode_base58, encode_base58, read_transaction
from chainwatch.deposits import VaultChange, read_move
from chainwatch.signatures import verify_signatures
from chainwatch.wire import read_wire
from tests.fakes.chain_answers import (
    MEMO_V2,
    PAYER,
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
    VAULT,
    WALLET,
    Inner,
    Landed,
    Row,
    call,
    key,
    keypair,
    memo,
    paid,
    transfer,
)  # fmt: skip

ABSENT = object()
ZERO_KEY = "1" * 32
U64_MAX = 2**64 - 1
SIGNATURE_END, MESSAGE_START = 65, 65  # one signature after its number


def spoil(answer: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Put `value` where the path leads, or take out what is there."""
    *way, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    place: Any = answer
    for step in way:
        place = place[step]
    if value is ABSENT:
        del place[last]
    else:
        place[last] = value
    return answer


def a_payment(**changes: Any) -> Landed:
    return replace(Landed(instructions=[transfer(), memo("hello")]), **changes)


def reread(landed: Landed, answer: dict[str, Any]) -> Any:
    return read_transaction(answer, signature=str(landed.sign().signatures[0]))


# Base58.


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"", ""), (b"\0", "1"), (b"\0\0\x01", "112"), (b"hello", "Cn8eVZg"), (bytes(32), ZERO_KEY), (b"\xff" * 3, "2UzHL")],
)
def test_base58_is_written_and_read_as_everywhere(raw: bytes, text: str) -> None:
    assert encode_base58(raw) == text
    assert decode_base58(text) == raw


@pytest.mark.parametrize("text", ["0", "O", "I", "l", "1 1", "é", "\ud800", "11\n"])
def test_a_letter_outside_the_alphabet_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        decode_base58(text)


@pytest.mark.parametrize("text", ["", "1" * 31, "1" * 33, "z" * 44, "1" * 1_000_000])
def test_a_text_of_another_length_is_no_key(text: str) -> None:
    with pytest.raises(Unreadable):
        decode_exactly(text, 32)


# The wire bytes.


@pytest.mark.parametrize("legacy", [True, False])
def test_case_01_a_transaction_of_either_kind_is_read_as_it_was_signed(legacy: bool) -> None:
    landed = a_payment(legacy=legacy)
    signed = landed.sign()

    transaction = landed.read()

    assert transaction.wire.version == (None if legacy else 0)
    assert transaction.wire.keys == tuple(map(str, signed.message.account_keys))
    assert transaction.wire.signers == (str(PAYER.pubkey()),)
    assert [(one.program, one.data) for one in transaction.wire.instructions] == [(TOKEN_PROGRAM, bytes(transfer().data)), (MEMO_V2, b"hello")]
    assert transaction.wire.instructions[0].accounts == (WALLET, VAULT.mint, VAULT.address, str(PAYER.pubkey()))
    assert (transaction.slot, transaction.block_time, transaction.signature) == (331, 1_700_000_000, str(signed.signatures[0]))
    verify_signatures(transaction.wire)


def test_case_15_the_vault_may_be_in_a_lookup_table_only() -> None:
    landed = a_payment(tables=[[key("filler"), WALLET, VAULT.address, VAULT.mint]])

    transaction = landed.read()

    assert VAULT.address not in map(str, landed.sign().message.account_keys)
    assert transaction.wire.instructions[0].accounts == (WALLET, VAULT.mint, VAULT.address, str(PAYER.pubkey()))
    assert transaction.wire.keys[-1] == VAULT.mint  # the readonly ones come last
    assert read_move(transaction, VAULT) == VaultChange(pre=0, post=5_000_000, senders=(str(PAYER.pubkey()),))


def test_every_signature_is_verified_not_only_the_first() -> None:
    second = keypair("second")
    landed = a_payment(instructions=[memo("hello", signers=[str(second.pubkey())])], rows=[], signers=[second])
    wire = landed.read().wire
    verify_signatures(wire)

    forged = replace(wire, signatures=(wire.signatures[0], wire.signatures[0]))

    with pytest.raises(Unreadable):
        verify_signatures(forged)
    with pytest.raises(Unreadable):
        verify_signatures(replace(wire, message=wire.message + b"\0"))


@pytest.mark.parametrize("legacy", [True, False])
def test_a_transaction_that_ends_too_early_or_too_late_is_refused(legacy: bool) -> None:
    raw = bytes(a_payment(legacy=legacy).sign())

    for length in range(len(raw)):
        with pytest.raises(Unreadable):
            read_wire(raw[:length])
    with pytest.raises(Unreadable, match="bytes follow"):
        read_wire(raw + b"\0")


def length_written_as(count: bytes) -> bytes:
    """A transaction with its number of signatures, 1, written another way."""
    return count + bytes(a_payment().sign())[1:]


@pytest.mark.parametrize("count", [b"\x81\x00", b"\x81\x80\x00", b"\x81\x80\x04", b"\x81\x80\x80", b"\x81\x80\x80\x00"])
def test_a_length_has_one_spelling_only(count: bytes) -> None:
    with pytest.raises(Unreadable, match="compact"):
        read_wire(length_written_as(count))


def test_lengths_of_up_to_three_bytes_are_read() -> None:
    for size in (0, 127, 128, 16_383, 16_384, 50_000):
        wire = read_wire(bytes(a_payment(instructions=[memo(b"x" * size)]).sign()))

        assert wire.instructions[0].data == b"x" * size


@pytest.mark.parametrize("version", [1, 2, 127])
def test_a_version_that_is_not_known_is_refused(version: int) -> None:
    raw = bytearray(bytes(a_payment().sign()))
    raw[MESSAGE_START] = 0x80 | version

    with pytest.raises(Unreadable, match="version"):
        read_wire(bytes(raw))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 2),  # signatures required: more than there are
        (0, 0),
        (1, 1),  # readonly signers: no payer left
        (2, 200),  # readonly others: more than keys
    ],
)
def test_a_header_that_contradicts_the_rest_is_refused(place: int, value: int) -> None:
    raw = bytearray(bytes(a_payment().sign()))
    raw[MESSAGE_START + 1 + place] = value

    with pytest.raises(Unreadable):
        read_wire(bytes(raw))


def test_a_transaction_without_a_signature_is_refused() -> None:
    raw = bytes(a_payment().sign())

    with pytest.raises(Unreadable, match="signatures"):
        read_wire(b"\0" + raw[SIGNATURE_END:])


@pytest.mark.parametrize("program", [0, 200])
def test_a_program_is_one_of_the_messages_own_keys_and_not_the_payer(program: int) -> None:
    raw = bytearray(bytes(a_payment(instructions=[memo("hello")], legacy=True).sign()))
    raw[-8] = program  # before: its number of accounts, the length of "hello" and its five letters

    with pytest.raises(Unreadable, match="program"):
        read_wire(bytes(raw))


def test_an_account_that_does_not_exist_is_refused() -> None:
    raw = bytearray(bytes(a_payment(instructions=[memo("hello", signers=[str(PAYER.pubkey())])], legacy=True).sign()))
    raw[-7] = 9  # the index of its one account

    with pytest.raises(Unreadable, match="does not exist"):
        read_wire(bytes(raw))


def test_a_key_that_comes_twice_is_refused() -> None:
    landed = a_payment(tables=[[WALLET, VAULT.address]])
    answer = landed.answer()

    with pytest.raises(Unreadable, match="twice"):
        reread(landed, spoil(answer, "meta.loadedAddresses.writable", [VAULT.address, VAULT.address]))


def test_a_lookup_table_that_gives_nothing_is_refused() -> None:
    raw = bytes(a_payment().sign())
    assert raw[-1] == 0  # no lookup tables

    with pytest.raises(Unreadable, match="for nothing"):
        read_wire(raw[:-1] + b"\x01" + bytes(32) + b"\0\0")


# What a provider says around it.


@pytest.mark.parametrize("value", [None, [], "text", 5, True, 1.5])
def test_an_answer_that_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(Unreadable):
        read_transaction(value, signature=str(a_payment().sign().signatures[0]))


ODD = [ABSENT, None, True, -1, 1.0, 10**30, 10**5000, "", "1", "\ud800", "x" * 100_000, [], [[]], {}, {"a": {}}, [None], [True], ["\ud800"], [{}], [[1]]]
DECIDING = [
    "slot", "blockTime", "transaction", "transaction.0", "transaction.1", "meta", "meta.preTokenBalances", "meta.postTokenBalances",
    "meta.preTokenBalances.0", "meta.preTokenBalances.0.accountIndex", "meta.preTokenBalances.0.mint", "meta.preTokenBalances.0.owner",
    "meta.preTokenBalances.0.programId", "meta.preTokenBalances.0.uiTokenAmount", "meta.preTokenBalances.0.uiTokenAmount.amount",
    "meta.innerInstructions", "meta.innerInstructions.0", "meta.innerInstructions.0.index", "meta.innerInstructions.0.instructions",
    "meta.innerInstructions.0.instructions.0", "meta.innerInstructions.0.instructions.0.programIdIndex",
    "meta.innerInstructions.0.instructions.0.accounts", "meta.innerInstructions.0.instructions.0.data",
    "meta.innerInstructions.0.instructions.0.stackHeight", "meta.loadedAddresses", "meta.loadedAddresses.writable",
    "meta.loadedAddresses.readonly", "meta.logMessages", "meta.logMessages.0", "meta.err", "version",
]  # fmt: skip
# What may be missing, empty or another value without the rest losing its meaning.
HARMLESS: dict[str, tuple[object, ...]] = {
    "blockTime": (ABSENT, None),
    "meta.preTokenBalances": ([],),
    "meta.preTokenBalances.0": (ABSENT,),
    "meta.preTokenBalances.0.owner": (ABSENT, None),
    "meta.preTokenBalances.0.programId": (ABSENT, None),
    "meta.preTokenBalances.0.uiTokenAmount.amount": ("1",),
    "meta.postTokenBalances": ([],),
    "meta.innerInstructions": ([],),
    "meta.innerInstructions.0": (ABSENT,),
    "meta.innerInstructions.0.instructions": ([],),
    "meta.innerInstructions.0.instructions.0": (ABSENT,),
    "meta.innerInstructions.0.instructions.0.accounts": ([],),
    "meta.innerInstructions.0.instructions.0.data": ("", "1", "x" * 16_384),
    "meta.innerInstructions.0.instructions.0.stackHeight": (ABSENT, None),
    "meta.logMessages": (ABSENT, None, [], ["\ud800"]),
    "meta.logMessages.0": (ABSENT, "", "1", "\ud800", "x" * 100_000),
    "meta.err": tuple(one for one in ODD if one is not ABSENT),
    "version": (ABSENT,),
}


def everything() -> Landed:
    return Landed(
        instructions=[transfer(), memo("hello")],
        tables=[[WALLET, VAULT.address, VAULT.mint]],
        inner={0: [Inner(program=MEMO_V2, data=b"hi", accounts=[WALLET])]},
        logs=["Log truncated"],
    )


@pytest.mark.parametrize("path", DECIDING)
def test_what_decides_is_there_and_of_its_type_or_the_answer_is_unreadable(path: str) -> None:
    landed = everything()
    harmless = HARMLESS.get(path, ())

    for value in ODD:
        answer = spoil(landed.answer(), path, value)
        if any(value is one or (type(value) is type(one) and value == one) for one in harmless):
            reread(landed, answer)
            continue
        with pytest.raises(Unreadable) as refusal:
            reread(landed, answer)
        assert len(refusal.value.reason) < 120  # never with what was given


@pytest.mark.parametrize("path", ["meta.loadedAddresses.writable", "meta.loadedAddresses.readonly"])
def test_as_many_keys_come_from_lookup_tables_as_the_transaction_asks_for(path: str) -> None:
    landed = everything()

    for keys in ([key("a")] * 257, [key("a"), key("b"), key("c")], [ZERO_KEY + "1"], ["0" * 32]):
        with pytest.raises(Unreadable):
            reread(landed, spoil(landed.answer(), path, keys))


def test_a_transaction_without_lookup_tables_needs_no_loaded_addresses_and_takes_none() -> None:
    landed = a_payment()

    assert reread(landed, spoil(landed.answer(), "meta.loadedAddresses", ABSENT)) == landed.read()
    with pytest.raises(Unreadable):
        reread(landed, spoil(landed.answer(), "meta.loadedAddresses.writable", [key("a")]))


def test_a_transaction_has_256_keys_at_most() -> None:
    raw = bytes(a_payment().sign())
    own = len(read_wire(raw).keys)
    keys = [key(f"filler {number}") for number in range(257 - own)]
    lookups = lambda count: b"\x01" + bytes(32) + bytes([count & 0x7F | 0x80, count >> 7]) + bytes(count) + b"\0"  # noqa: E731

    assert len(read_wire(raw[:-1] + lookups(256 - own), writable=keys[1:]).keys) == 256
    with pytest.raises(Unreadable, match="too many keys"):
        read_wire(raw[:-1] + lookups(257 - own), writable=keys)


def test_another_transaction_than_the_one_asked_for_is_refused() -> None:
    with pytest.raises(Unreadable, match="another transaction"):
        read_transaction(a_payment().answer(), signature=encode_base58(bytes(64)))
    for odd in ("", "0", "1" * 31, None, 5):
        with pytest.raises(Unreadable):
            read_transaction(a_payment().answer(), signature=odd)  # type: ignore[arg-type]


@pytest.mark.parametrize(("legacy", "told"), [(True, 0), (True, "0"), (False, "legacy"), (False, 1), (False, None)])
def test_a_version_that_contradicts_the_bytes_is_refused(legacy: bool, told: object) -> None:
    landed = a_payment(legacy=legacy)

    with pytest.raises(Unreadable, match="version"):
        reread(landed, spoil(landed.answer(), "version", told))


@pytest.mark.parametrize("amount", ["-1", "+1", "01", " 1", "1 ", "1\n", "1.0", "1e3", "1_0", "٣", "0x1", str(2**64), "9" * 20, "9" * 10_000])
def test_an_amount_is_a_plain_whole_number_of_64_bits(amount: str) -> None:
    landed = everything()

    with pytest.raises(Unreadable, match="base units"):
        reread(landed, spoil(landed.answer(), "meta.postTokenBalances.1.uiTokenAmount.amount", amount))


@pytest.mark.parametrize("path", ["meta.preTokenBalances", "meta.postTokenBalances"])
def test_two_rows_for_one_account_are_refused_even_where_they_agree(path: str) -> None:
    landed = a_payment(rows=paid(held=1))
    answer = landed.answer()
    rows = answer["meta"][path.removeprefix("meta.")]

    with pytest.raises(Unreadable, match="two token balances"):
        reread(landed, spoil(answer, path, [*rows, rows[-1]]))


def test_one_instruction_has_one_group_of_inner_instructions() -> None:
    landed = everything()
    answer = landed.answer()

    with pytest.raises(Unreadable, match="two groups"):
        reread(landed, spoil(answer, "meta.innerInstructions", answer["meta"]["innerInstructions"] * 2))


@pytest.mark.parametrize(("heights", "readable"), [
    ([2], True), ([2, 2], True), ([2, 3, 4, 2, 3], True), ([None, None], True), ([], True),
    ([1], False), ([0], False), ([3], False), ([2, 4], False), ([2, None], False), ([None, 2], False), ([2, 3, 2, 4], False),
])  # fmt: skip
def test_heights_of_inner_instructions_are_those_of_calls(heights: list[int | None], readable: bool) -> None:
    landed = a_payment(inner={0: [Inner(program=MEMO_V2, height=height) for height in heights]})

    if readable:
        assert [one.height for one in landed.read().meta.inner[0][1]] == heights
    else:
        with pytest.raises(Unreadable):
            landed.read()


def test_more_inner_instructions_than_any_transaction_can_make_are_refused() -> None:
    landed = a_payment(inner={0: [Inner(program=MEMO_V2)] * 150, 1: [Inner(program=MEMO_V2)] * 107})

    with pytest.raises(Unreadable, match="more inner instructions"):
        landed.read()


def test_the_longest_inner_data_that_can_be_are_read_quickly() -> None:
    landed = a_payment(inner={0: [Inner(program=MEMO_V2)] * 64})
    answer = landed.answer()
    longest = b"\xff" * 10_240
    text = encode_base58(longest)
    for instruction in answer["meta"]["innerInstructions"][0]["instructions"]:
        instruction["data"] = text

    began = time.process_time()
    transaction = reread(landed, answer)

    assert transaction.meta.inner[0][1][-1].data == longest
    assert time.process_time() - began < 5  # by digits it takes longer than all other tests


# What it did to the vault.


def move(*rows: Row, **changes: Any) -> VaultChange | None:
    return read_move(a_payment(rows=rows, **changes).read(), VAULT)


def of_vault(pre: int | None, post: int | None, **changes: Any) -> Row:
    return replace(Row(account=VAULT.address, pre=pre, post=post, owner=VAULT.owner), **changes)


def of_wallet(pre: int | None, post: int | None, **changes: Any) -> Row:
    return replace(Row(account=WALLET, pre=pre, post=post, owner=str(PAYER.pubkey())), **changes)


SENDER = (str(PAYER.pubkey()),)


def test_a_payment_is_the_change_of_the_vaults_own_balance() -> None:
    assert move(of_wallet(9, 4), of_vault(100, 105)) == VaultChange(pre=100, post=105, senders=SENDER)


def test_case_08_two_transfers_in_one_transaction_are_one_sum() -> None:
    change = move(of_wallet(9, 1), of_vault(100, 108), instructions=[transfer(5), transfer(3)])

    assert change is not None
    assert change.amount == 8


def test_case_09_a_batch_that_shows_no_inner_instruction_and_no_log_is_one_sum() -> None:
    change = move(of_wallet(9, 1), of_vault(100, 108), instructions=[call(TOKEN_PROGRAM, b"\xff\x03\x09", WALLET, VAULT.address)], logs=[])

    assert change is not None
    assert change.amount == 8


def test_case_10_a_transfer_from_the_vault_to_itself_is_nothing() -> None:
    assert move(of_vault(100, 100)) is None


def test_case_11_what_goes_in_and_out_counts_net() -> None:
    assert move(of_wallet(9, 4), of_vault(100, 105)) == VaultChange(pre=100, post=105, senders=SENDER)


def test_case_12_money_that_leaves_is_a_move_with_an_amount_below_zero() -> None:
    change = move(of_wallet(4, 9), of_vault(100, 95))

    assert change == VaultChange(pre=100, post=95, senders=())
    assert change.amount == -5


def test_case_13_a_failed_transaction_is_nothing_whatever_its_rows_say() -> None:
    assert move(of_wallet(9, 4), of_vault(100, 105), err={"InstructionError": [0, {"Custom": 1}]}) is None


def test_case_14_minting_into_the_vault_counts_and_has_no_sender() -> None:
    assert move(of_vault(None, 105)) == VaultChange(pre=0, post=105, senders=())


def test_case_18_a_transfer_of_nothing_or_a_mere_mention_is_nothing() -> None:
    assert move(of_wallet(9, 9), of_vault(100, 100)) is None
    assert move() is None
    assert move(of_wallet(9, 4)) is None


@pytest.mark.parametrize("changes", [{"mint": key("fake mint")}, {"program": TOKEN_2022_PROGRAM}, {"program": None}])
def test_case_19_a_row_of_the_vault_with_another_mint_or_program_is_refused(changes: dict[str, Any]) -> None:
    landed = a_payment(rows=[of_wallet(9, 4), of_vault(100, 105, **changes)])
    landed.instructions = [*landed.instructions, memo("", signers=[])]

    with pytest.raises(Unreadable, match="mint or token program"):
        read_move(landed.read(), VAULT)


def test_case_19_a_fake_mint_in_other_accounts_changes_nothing() -> None:
    assert move(of_wallet(9, 4, mint=key("fake mint"))) is None


def test_case_20_a_fee_that_the_token_keeps_is_not_credited() -> None:
    vault = replace(VAULT, token_program=TOKEN_2022_PROGRAM)
    rows = [of_wallet(10_000_000, 0, program=TOKEN_2022_PROGRAM), of_vault(0, 9_900_000, program=TOKEN_2022_PROGRAM)]

    change = read_move(a_payment(rows=rows).read(), vault)

    assert change is not None
    assert change.amount == 9_900_000


def test_case_31_amounts_of_64_bits_are_exact() -> None:
    assert move(of_wallet(U64_MAX, 0), of_vault(0, U64_MAX)) == VaultChange(pre=0, post=U64_MAX, senders=SENDER)
    assert move(of_vault(2**53, 2**53 + 1)) == VaultChange(pre=2**53, post=2**53 + 1, senders=())
    change = move(of_vault(U64_MAX, 0))
    assert change is not None
    assert change.amount == -U64_MAX


def test_a_vault_that_was_closed_held_nothing_afterwards() -> None:
    assert move(of_vault(100, None)) == VaultChange(pre=100, post=0, senders=())


def test_money_that_arrives_in_a_vault_that_another_owns_is_refused() -> None:
    with pytest.raises(Unreadable, match="another owner"):
        move(of_wallet(9, 4), of_vault(100, 105, owner=key("thief")))
    assert move(of_wallet(4, 9), of_vault(105, 100, owner=key("thief"))) is not None  # what is gone is gone
    assert move(of_vault(100, 105, owner=None)) is not None


def test_senders_are_the_owners_whose_accounts_fell_sorted_and_each_once() -> None:
    first, second, third, other = (key(f"account {number}") for number in range(4))
    accounts = [call(MEMO_V2, b"", first, second, third, other)]
    owners = sorted([key("owner a"), key("owner b")])
    rows = [
        Row(account=first, pre=9, post=4, owner=owners[1]),
        Row(account=second, pre=9, post=None, owner=owners[0]),  # was closed
        Row(account=third, pre=9, post=8, owner=owners[1]),
        Row(account=other, pre=1, post=9, owner=key("owner c")),
    ]

    change = move(*rows, of_vault(0, 5), instructions=[*accounts, transfer()])

    assert change is not None
    assert change.senders == tuple(owners)


def test_an_account_that_became_one_of_another_mint_fell() -> None:
    landed = a_payment(rows=[of_wallet(9, 9), of_vault(0, 9)])
    answer = spoil(landed.answer(), "meta.postTokenBalances.0.mint", key("fake mint"))

    change = read_move(reread(landed, answer), VAULT)

    assert change is not None
    assert change.senders == SENDER


def test_a_sender_whose_name_is_withheld_makes_the_answer_unreadable() -> None:
    with pytest.raises(Unreadable, match="owner"):
        move(of_wallet(9, 4, owner=None), of_vault(100, 105))


def test_the_wire_has_an_upper_bound() -> None:
    landed = a_payment()
    raw = bytes(landed.sign()).ljust(65_537, b"\0")

    with pytest.raises(Unreadable, match="longer"):
        read_wire(raw)
    with pytest.raises(Unreadable):
        reread(landed, spoil(landed.answer(), "transaction.0", base64.b64encode(raw * 2).decode()))


def test_thousands_of_keys_and_instructions_are_refused_at_once() -> None:
    thousands: Callable[[int], bytes] = lambda count: bytes([count & 0x7F | 0x80, count >> 7])  # noqa: E731
    began = time.process_time()

    for raw in (thousands(5_000) + bytes(60_000), b"\x01" + bytes(64) + b"\x80\x01\0\0" + thousands(1_800) + bytes(60_000)):
        with pytest.raises(Unreadable):
            read_wire(raw)

    assert time.process_time() - began < 5
