"""What holds for every transaction: its bytes have one reading, its money is conserved, its naming knows no order."""

import base64
import contextlib
import json
import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, CompiledInstruction, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from chainwatch.decode import ConfirmedTransaction, Unreadable, WireTransaction, decode_base58, encode_base58, read_transaction
from chainwatch.deposits import MEMO_PROGRAMS, name_account, read_code, read_move
from chainwatch.events import CALL_TAG, EVENT_TAG, EventRules, read_events
from chainwatch.signatures import verify_signatures
from chainwatch.wire import read_wire
from tests.fakes.chain_answers import CODE, OTHER_CODE, VAULT, Inner, Landed, Row, call, key, memo, paid, transfer

# Enough to meet every branch often, few enough for two busy cores.
often = settings(max_examples=100, deadline=None)

SIGNERS = [Keypair.from_seed(bytes([number + 1]) * 32) for number in range(4)]
KEYS = [Pubkey(bytes([number + 100]) * 32) for number in range(12)]
TABLES = [AddressLookupTableAccount(Pubkey(bytes([number + 50]) * 32), KEYS[4 * number : 4 * number + 4]) for number in range(3)]
TABLE_KEYS = {str(table.key): list(map(str, table.addresses)) for table in TABLES}

# Wire bytes.


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    keys = st.sampled_from([*KEYS, *(signer.pubkey() for signer in SIGNERS)])
    signing = {signer.pubkey() for signer in SIGNERS}
    accounts = [AccountMeta(one, one in signing, draw(st.booleans())) for one in draw(st.lists(keys, max_size=6))]
    return Instruction(Pubkey(bytes([draw(st.integers(200, 205))]) * 32), draw(st.binary(max_size=200)), accounts)


@st.composite
def signed(draw: st.DrawFn) -> VersionedTransaction:
    """A transaction that solders built and signed, legacy or version 0, with or without lookup tables."""
    listed = draw(st.lists(instructions(), max_size=5))
    blockhash = Hash(draw(st.binary(min_size=32, max_size=32)))
    payer = SIGNERS[0]
    if draw(st.booleans()):
        message: Message | MessageV0 = Message.new_with_blockhash(listed, payer.pubkey(), blockhash)
    else:
        message = MessageV0.try_compile(payer.pubkey(), listed, [TABLES[one] for one in sorted(draw(st.sets(st.integers(0, len(TABLES) - 1))))], blockhash)
    needed = message.account_keys[: message.header.num_required_signatures]
    return VersionedTransaction(message, [one for one in SIGNERS if one.pubkey() in needed])


def loaded(message: Message | MessageV0) -> dict[str, list[str]]:
    lookups = message.address_table_lookups if isinstance(message, MessageV0) else []
    return {
        "writable": [TABLE_KEYS[str(one.account_key)][index] for one in lookups for index in one.writable_indexes],
        "readonly": [TABLE_KEYS[str(one.account_key)][index] for one in lookups for index in one.readonly_indexes],
    }


def require_same(wire: WireTransaction, transaction: VersionedTransaction) -> None:
    """Compare every field with what solders reads."""
    message = transaction.message
    keys = [*map(str, message.account_keys), *loaded(message)["writable"], *loaded(message)["readonly"]]
    assert wire.signatures == tuple(map(bytes, transaction.signatures))
    assert wire.keys == tuple(keys)
    assert wire.signers == tuple(keys[: message.header.num_required_signatures])
    assert wire.version == (0 if isinstance(message, MessageV0) else None)
    assert bytes(transaction).endswith(wire.message)
    compiled: list[CompiledInstruction] = message.instructions
    assert [(one.program, one.accounts, one.data) for one in wire.instructions] == [
        (keys[one.program_id_index], tuple(keys[index] for index in one.accounts), bytes(one.data)) for one in compiled
    ]


@often
@given(signed())
def test_solders_and_we_read_the_same(transaction: VersionedTransaction) -> None:
    wire = read_wire(bytes(transaction), **loaded(transaction.message))

    require_same(wire, transaction)
    verify_signatures(wire)


@often
@given(signed(), st.data())
def test_changed_bytes_are_unreadable_or_read_as_solders_reads_them_and_their_signatures_fail(transaction: VersionedTransaction, data: st.DataObject) -> None:
    raw, keys = bytearray(bytes(transaction)), loaded(transaction.message)
    places = data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(1, 255)), min_size=1, max_size=3, unique_by=lambda one: one[0]))
    for place, change in places:
        raw[place] ^= change

    try:
        wire = read_wire(bytes(raw), **keys)
    except Unreadable:
        return
    again = VersionedTransaction.from_bytes(bytes(raw))
    assert bytes(again) == bytes(raw)
    assert wire.signatures == tuple(map(bytes, again.signatures))
    assert wire.keys[: len(again.message.account_keys)] == tuple(map(str, again.message.account_keys))
    assert [one.data for one in wire.instructions] == [bytes(one.data) for one in again.message.instructions]
    with pytest.raises(Unreadable):
        verify_signatures(wire)  # every byte is a signature's or is signed


@often
@given(signed(), st.data())
def test_bytes_that_were_cut_added_or_moved_are_unreadable_or_all_of_another_transaction(transaction: VersionedTransaction, data: st.DataObject) -> None:
    raw = bytes(transaction)
    begin, end = sorted(data.draw(st.tuples(st.integers(0, len(raw)), st.integers(0, len(raw)))))
    changed = raw[:begin] + data.draw(st.sampled_from([b"", raw[begin:end] * 2, data.draw(st.binary(max_size=40))])) + raw[end:]

    with contextlib.suppress(Unreadable):
        wire = read_wire(changed, **loaded(transaction.message))
        again = VersionedTransaction.from_bytes(changed)
        assert bytes(again) == changed  # so nothing of it was passed over
        assert wire.signatures == tuple(map(bytes, again.signatures))


@often
@given(st.binary(max_size=2_000))
def test_any_bytes_are_unreadable_or_what_solders_reads(raw: bytes) -> None:
    with contextlib.suppress(Unreadable):
        wire = read_wire(raw)
        assert wire.keys == tuple(map(str, VersionedTransaction.from_bytes(raw).message.account_keys))


# Base58.


@often
@given(st.binary(max_size=300))
def test_base58_reads_back_as_the_bytes_and_as_solders_writes_it(raw: bytes) -> None:
    assert decode_base58(encode_base58(raw)) == raw
    if len(raw) == Pubkey.LENGTH:
        assert encode_base58(raw) == str(Pubkey(raw))


@often
@given(st.text(alphabet="123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0OIl \u0660", max_size=120))
def test_a_text_in_base58_has_one_spelling(text: str) -> None:
    with contextlib.suppress(Unreadable):
        assert encode_base58(decode_base58(text)) == text


# What a provider says.

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8) | st.text("0123456789", max_size=22),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["index", "amount", "accountIndex", "mint", "writable", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def full() -> Landed:
    inner = {0: [Inner(program=next(iter(MEMO_PROGRAMS)), data=b"hi", accounts=[VAULT.mint])]}
    return Landed(instructions=[transfer(), memo("a"), *map(memo_of, MEMO_PROGRAMS)], rows=paid(held=3), inner=inner, logs=["a", "b"], tables=[[VAULT.address]])


def memo_of(program: str) -> Instruction:
    return call(program, CODE.encode())


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [one for name, inner in below for one in places(inner, (*path, name))]


FULL = full()
SIGNATURE = str(FULL.sign().signatures[0])
ANSWER = json.dumps(FULL.answer())
PLACES = places(json.loads(ANSWER))
RULES = EventRules(program=key("deposit program"), authority=key("authority"), mint=VAULT.mint)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), ANYTHING), min_size=1, max_size=3))
def test_any_answer_is_read_or_unreadable_and_never_anything_else(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    answer = json.loads(ANSWER)
    for (*way, last), value in changes:
        place = answer
        with contextlib.suppress(TypeError, KeyError, IndexError):  # an earlier change took the place away
            for step in way:
                place = place[step]
            place[last] = value

    with contextlib.suppress(Unreadable):
        transaction = read_transaction(answer, signature=SIGNATURE)
        verify_signatures(transaction.wire)
        change = read_move(transaction, VAULT)
        name_account(transaction, references={}, inner_memo=True, event=RULES, amount=change.amount if change else 0)


# Money.

AMOUNTS = st.one_of(st.none(), st.integers(0, 2**64 - 1), st.sampled_from([0, 2**53 - 1, 2**53, 2**53 + 1, 2**64 - 1]))


@often
@given(st.lists(st.tuples(AMOUNTS, AMOUNTS, st.integers(0, 3)), max_size=8), AMOUNTS, AMOUNTS, st.randoms(use_true_random=False))
def test_the_change_is_the_difference_of_the_vaults_rows_exactly_whatever_else_moved_and_in_any_order(
    others: list[tuple[int | None, int | None, int]], pre: int | None, post: int | None, chance: random.Random
) -> None:
    names = [key(f"account {number}") for number in range(len(others))]
    owners = [key(f"owner {number}") for number in range(4)]
    rows = [Row(account=name, pre=before, post=after, owner=owners[owner]) for name, (before, after, owner) in zip(names, others, strict=True)]
    vault = Row(account=VAULT.address, pre=pre, post=post, owner=VAULT.owner)
    mixed = chance.sample([*rows, vault], len(rows) + 1)
    landed = Landed(instructions=[transfer(), call(key("program"), b"", *names)], rows=mixed)

    change = read_move(landed.read(), VAULT)

    assert (change.amount if change else 0) == (post or 0) - (pre or 0)
    if change:
        fell = {owners[owner] for before, after, owner in others if (before or 0) > (after or 0)}
        assert change.senders == tuple(sorted(fell))


@often
@given(st.lists(st.tuples(st.sampled_from([CODE, OTHER_CODE]), st.integers(0, 2**64 - 1)), max_size=5), st.integers(1, 2**64 - 1), st.booleans())
def test_no_event_names_anyone_for_money_that_did_not_arrive(events: list[tuple[str, int]], amount: int, by_call: bool) -> None:
    payloads = [EVENT_TAG + bytes(32) + decode_base58(VAULT.mint) + bytes.fromhex(code) + struct.pack("<QQ", claimed, 2**64 - 1) for code, claimed in events]
    data = [f"Program data: {base64.b64encode(payload).decode()}" for payload in payloads]
    landed = Landed(
        instructions=[call(RULES.program)],
        rows=[],
        inner={0: [Inner(program=RULES.program, data=CALL_TAG + payload, accounts=[RULES.authority]) for payload in payloads]} if by_call else {},
        logs=[f"Program {RULES.program} invoke [1]", *([] if by_call else data), f"Program {RULES.program} success"],
        mentioned=[RULES.authority],
    )
    transaction = landed.read()

    naming = name_account(transaction, references={}, inner_memo=True, event=RULES, amount=amount)

    claimed = {code: sum(part for named, part in events if named == code) for code in sorted({named for named, part in events if part})}
    assert read_events(transaction, RULES).codes == tuple(claimed)
    if naming.deposit_code:
        assert list(claimed) == [naming.deposit_code]
        assert sum(claimed.values()) <= amount


# Naming.

MEMOS = st.sampled_from([CODE, OTHER_CODE, f"{CODE}:1", "thank you", f"{CODE}x", "", f"level5:{CODE}"])


@often
@given(st.lists(MEMOS, max_size=4), st.lists(MEMOS, max_size=3), st.sampled_from([None, CODE, OTHER_CODE]), st.randoms(use_true_random=False))
def test_naming_knows_no_order_case_or_blanks(top: list[str], inner: list[str], reference: str | None, chance: random.Random) -> None:
    programs = sorted(MEMO_PROGRAMS)

    def disguised(text: str) -> bytes:
        blanks = ("", " ", "\n\t", "\u3000")
        return (chance.choice(blanks) + "".join(chance.choice([one.lower(), one.upper()]) for one in text) + chance.choice(blanks)).encode()

    def read(order: bool) -> ConfirmedTransaction:
        listed = [memo(disguised(text) if order else text, program=chance.choice(programs)) for text in top] + [transfer(5, key("reference"))]
        within = [Inner(program=chance.choice(programs), data=disguised(text) if order else text.encode()) for text in inner]
        if order:
            chance.shuffle(listed)
            chance.shuffle(within)
        return Landed(instructions=listed, rows=[], inner={0: within}, mentioned=programs, legacy=chance.random() < 0.5).read()

    references = {key("reference"): reference} if reference else {}
    plain, mixed = (name_account(read(order), references=references, inner_memo=True, event=None, amount=5) for order in (False, True))

    assert plain == mixed
    assert bool(plain.deposit_code) == bool(plain.source) == (not plain.aside)
    codes = {code for text in top if (code := read_code(text.encode()))}
    if plain.source in ("memo", "reference"):
        assert codes | ({reference} if reference else set()) == {plain.deposit_code}


@often
@given(st.binary(max_size=400) | st.text(max_size=60).map(str.encode))
def test_a_memo_is_a_code_only_where_nothing_else_is_in_it(raw: bytes) -> None:
    code = read_code(raw)

    assert code is None or raw.decode().strip().upper().removeprefix("LEVEL5:").split(":")[0] == code
