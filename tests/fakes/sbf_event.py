"""A program of our own, so that events and calls of other programs come from a real SVM run.

The program is not the Anchor contract; it leaves the same traces: calls of the token and memo programs, an event as a
`Program data:` log (`emit!`), and the event as a call of itself that its event authority signs (`emit_cpi!`).

Instruction data: flags, event length, bump of the event authority, memo length, u32 number of earlier logs,
then at 8 the token instruction, at 24 the seed, at 48 the tag and at 56 the event, and at 256 the memo.
Accounts: source, mint, destination, authority, token program, event authority, this program, memo program.
"""

import struct
from collections.abc import Callable, Sequence
from enum import IntFlag
from hashlib import sha256

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from sandbox.chain.instructions import USDC_DECIMALS, readonly, writable
from sandbox.chain.keys import MEMO_V2_PROGRAM, TOKEN_PROGRAM
from tests.fakes.sbf_assembler import Assembler

EVENT_TAG = bytes.fromhex("e445a52e51cb9a1d")  # before the event in the data of a call of itself
AUTHORITY_SEED = b"__event_authority"
TOKEN_AT, SEED_AT, TAG_AT, EVENT_AT, MEMO_AT = 8, 24, 48, 56, 256

# Where the program keeps what it passes on, in its heap.
HEAP = 0x300000000
INFOS, METAS, CALL, SEEDS, SLICE = HEAP + 0x100, HEAP + 0x1000, HEAP + 0x1100, HEAP + 0x1300, HEAP + 0x1400
INFO_BYTES, META_BYTES = 56, 16
REALLOC_BYTES = 10_240


class Act(IntFlag):
    """What a call of the program does, in this order."""

    TRANSFER = 1
    MEMO = 8
    LOG = 2
    CALL_ITSELF = 4
    FAIL = 16


def event_program() -> bytes:
    """Return the program. Registers: r6 the instruction's data, r7 the flags."""
    made = Assembler()
    _read_accounts(made)
    # A call of itself carries the tag first, and there is nothing to do.
    made.put_wide(2, int.from_bytes(EVENT_TAG, "little"))
    made.load(3, 6, 0)
    made.jump_unless_same("begin", 3, 2)
    made.leave(0)
    made.label("begin")
    made.load(7, 6, 0, size=1)
    _log_earlier(made)
    _when(made, Act.TRANSFER, lambda: _call(made, metas=((0, 1, 0), (1, 0, 0), (2, 1, 0), (3, 0, 1)), program=4, data_at=TOKEN_AT, length=10))
    _when(made, Act.MEMO, lambda: _call(made, metas=(), program=7, data_at=MEMO_AT, length_at=3))
    _when(made, Act.LOG, lambda: _log(made))
    _when(made, Act.CALL_ITSELF, lambda: _call(made, metas=((5, 0, 1),), program=6, data_at=TAG_AT, length_at=1, extra=8, signed=True))
    _when(made, Act.FAIL, lambda: made.leave(1))
    made.put(0, 0)
    made.label("out")
    made.leave()
    return made.elf()


def _read_accounts(made: Assembler) -> None:
    """Walk over the serialised accounts and keep for each what a call of another program needs of it."""
    made.load(8, 1, 0)
    made.put_wide(7, HEAP)
    made.store(7, 8, 0)  # how many accounts there are
    made.copy(6, 1)
    made.add(6, 8)
    made.put_wide(7, INFOS)
    made.label("account")
    made.jump_if_equal("accounts read", 8, 0)
    for field, delta in ((0, 8), (8, 72), (32, 40), (24, 88)):  # key, lamports, owner, data
        made.copy(3, 6)
        made.add(3, delta)
        made.store(7, 3, field)
    made.load(4, 6, 80)
    made.store(7, 4, 16)  # length of the data
    made.add_register(3, 4)
    made.add(3, REALLOC_BYTES + 7)
    made.mask(3, -8)
    made.load(5, 3, 0)
    made.store(7, 5, 40)  # rent epoch
    for flag in range(3):  # signer, writable, executable
        made.load(5, 6, 1 + flag, size=1)
        made.store(7, 5, 48 + flag, size=1)
    made.copy(6, 3)
    made.add(6, 8)
    made.add(7, INFO_BYTES)
    made.add(8, -1)
    made.jump("account")
    made.label("accounts read")
    made.add(6, 8)  # over the length of the data


def _log_earlier(made: Assembler) -> None:
    """Log the event as often as is asked, so that the log is full before anything else is in it."""
    made.load(8, 6, 4, size=4)
    made.put_wide(1, SLICE)
    made.copy(2, 6)
    made.add(2, EVENT_AT)
    made.store(1, 2, 0)
    made.load(2, 6, 1, size=1)
    made.store(1, 2, 8)
    made.label("earlier")
    made.jump_if_equal("earlier done", 8, 0)
    _log(made)
    made.add(8, -1)
    made.jump("earlier")
    made.label("earlier done")


def _log(made: Assembler) -> None:
    made.put_wide(1, SLICE)
    made.put(2, 1)
    made.call("sol_log_data")


def _when(made: Assembler, act: Act, do: Callable[[], None]) -> None:
    made.copy(2, 7)
    made.mask(2, int(act))
    made.jump_if_equal(f"not {act.name}", 2, 0)
    do()
    made.label(f"not {act.name}")


def _call(
    made: Assembler,
    *,
    metas: Sequence[tuple[int, int, int]],
    program: int,
    data_at: int,
    length: int = 0,
    length_at: int | None = None,
    extra: int = 0,
    signed: bool = False,
) -> None:
    """Call the program at account `program`; `metas` are (account, writable, signer). Its data's length is given, or is in our data."""
    made.put_wide(1, INFOS)
    made.put_wide(2, METAS)
    for place, (account, may_write, signs) in enumerate(metas):
        made.load(3, 1, INFO_BYTES * account)
        made.store(2, 3, META_BYTES * place)
        made.store_value(2, may_write, META_BYTES * place + 8, size=1)
        made.store_value(2, signs, META_BYTES * place + 9, size=1)
    made.put_wide(4, CALL)
    made.load(3, 1, INFO_BYTES * program)
    made.store(4, 3, 0)
    made.store(4, 2, 8)
    made.store_value(4, len(metas), 16)
    made.copy(3, 6)
    made.add(3, data_at)
    made.store(4, 3, 24)
    if length_at is None:
        made.put(3, length)
    else:
        made.load(3, 6, length_at, size=1)
        made.add(3, extra)
    made.store(4, 3, 32)
    made.put_wide(3, HEAP)
    made.load(3, 3, 0)
    made.copy(2, 1)
    made.copy(1, 4)
    made.put(4, 0)
    made.put(5, 0)
    if signed:
        _put_seeds(made)
    made.call("sol_invoke_signed_c")
    made.jump_unless_equal("out", 0, 0)


def _put_seeds(made: Assembler) -> None:
    """Let r4 and r5 say that the event authority signs: its seed and its bump."""
    made.put_wide(4, SEEDS)
    made.copy(5, 6)
    made.add(5, SEED_AT)
    made.store(4, 5, 0)
    made.store_value(4, len(AUTHORITY_SEED), 8)
    made.copy(5, 6)
    made.add(5, 2)
    made.store(4, 5, 16)
    made.store_value(4, 1, 24)
    made.store(4, 4, 32)
    made.store_value(4, 2, 40)
    made.add(4, 32)
    made.put(5, 1)


def deposit_event(*, owner: Pubkey, mint: Pubkey, code: str, amount: int, new_balance: int = 0) -> bytes:
    """Return a DepositEvent as Anchor writes it; `code` is 16 hexadecimal digits."""
    return sha256(b"event:DepositEvent").digest()[:8] + bytes(owner) + bytes(mint) + bytes.fromhex(code) + struct.pack("<QQ", amount, new_balance)


def call_event_program(
    program: Pubkey,
    *,
    source: Pubkey,
    mint: Pubkey,
    target: Pubkey,
    authority: Pubkey,
    amount: int = 0,
    event: bytes = b"",
    acts: Act = Act.TRANSFER | Act.LOG,
    memo: str = "",
    earlier_logs: int = 0,
    token_program: Pubkey = TOKEN_PROGRAM,
    memo_program: Pubkey = MEMO_V2_PROGRAM,
) -> Instruction:
    """Return a call that does `acts`; `earlier_logs` fills the log before them (120 are enough to cut it off)."""
    event_authority, bump = Pubkey.find_program_address([AUTHORITY_SEED], program)
    head = struct.pack("<BBBBI", acts, len(event), bump, len(memo.encode()), earlier_logs)
    transfer = struct.pack("<BQB", 12, amount, USDC_DECIMALS)
    data = (head + transfer).ljust(SEED_AT, b"\0") + AUTHORITY_SEED.ljust(TAG_AT - SEED_AT, b"\0") + EVENT_TAG + event
    if len(data) > MEMO_AT:
        raise ValueError("the event is too long")
    accounts: list[AccountMeta] = [writable(source), readonly(mint), writable(target), readonly(authority, signer=True)]
    accounts += map(readonly, (token_program, event_authority, program, memo_program))
    return Instruction(program, data.ljust(MEMO_AT, b"\0") + memo.encode(), accounts)
