"""The deposit program's `DepositEvent`, which names the account for money that arrived and never is money itself: pure.

An event is believed from a call of the program to itself, which only the program can sign, or else from the transaction's
log. A log is text that every program on the way may write to; so it counts only where it is whole, where no line can hide
another, and where it shows the program called exactly as often as the transaction did call it.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from chainwatch.base58 import encode_base58
from chainwatch.decode import ConfirmedTransaction
from ledger import asides

EVENT_TAG: Final = hashlib.sha256(b"event:DepositEvent").digest()[:8]
CALL_TAG: Final = hashlib.sha256(b"anchor:event").digest()[:8][::-1]  # a little-endian number in the framework's source

# After the tag, in Borsh: owner, mint, deposit code, amount, new balance.
_MINT: Final = slice(40, 72)
_CODE: Final = slice(72, 80)
_AMOUNT: Final = slice(80, 88)
_EVENT_BYTES: Final = 96

_INVOKE: Final = re.compile(r"Program ([1-9A-HJ-NP-Za-km-z]{32,44}) invoke \[([1-9][0-9]{0,2})\]", re.ASCII)
_SUCCESS: Final = re.compile(r"Program ([1-9A-HJ-NP-Za-km-z]{32,44}) success", re.ASCII)
_DATA: Final = "Program data: "
_TRUNCATED: Final = "Log truncated"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRules:
    """Whose events count, all as base58 keys.

    `authority` is the address that the program derives from `__event_authority` to sign calls of its own event instruction;
    `mint` is the vault's, because the program also tells of deposits in other tokens and in SOL.
    """

    program: str
    authority: str
    mint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReading:
    """What the events of one transaction say: the deposit codes, sorted, each once; the sum of their amounts in microunits.

    `aside` says why they cannot be believed, and is empty where they can; then there is no code either.
    """

    codes: tuple[str, ...] = ()
    amount: int = 0
    aside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _DepositEvent:
    deposit_code: str
    amount: int


class _Doubtful(Exception):
    """The events cannot be believed; `aside` says why."""

    def __init__(self, aside: str) -> None:
        super().__init__(aside)
        self.aside = aside


def read_events(transaction: ConfirmedTransaction, rules: EventRules) -> EventReading:
    """Return what the program's events of our mint say; an empty reading where it was not called or told of no deposit.

    Where the program called itself with an event, the log is not read: programs may write one event both ways. An event of
    another mint, or of nothing, is no deposit here.
    """
    calls = _count_calls(transaction, rules.program)
    if not calls:
        return EventReading()
    try:
        payloads = list(_self_calls(transaction, rules)) or list(_logged(transaction.meta.logs, rules.program, calls=calls))
        events = [event for payload in payloads if (event := _read_event(payload, rules.mint))]
    except _Doubtful as doubt:
        return EventReading(aside=doubt.aside)
    return EventReading(codes=tuple(sorted({event.deposit_code for event in events})), amount=sum(event.amount for event in events))


def _count_calls(transaction: ConfirmedTransaction, program: str) -> int:
    inner = (instruction for _, group in transaction.meta.inner for instruction in group)
    return sum(instruction.program == program for instruction in (*transaction.wire.instructions, *inner))


def _self_calls(transaction: ConfirmedTransaction, rules: EventRules) -> Iterator[bytes]:
    """Yield the deposit events that the program gave to itself.

    The caller is looked up by height. Without heights nobody knows who called, so nothing is yielded.
    """
    for index, group in transaction.meta.inner:
        callers = [transaction.wire.instructions[index].program]
        for instruction in group:
            if instruction.height is None:
                break
            del callers[instruction.height - 1 :]
            is_own = callers[-1] == instruction.program == rules.program and instruction.accounts == (rules.authority,)
            if is_own and instruction.data.startswith(CALL_TAG + EVENT_TAG):
                yield instruction.data.removeprefix(CALL_TAG)
            callers.append(instruction.program)


def _logged(logs: Iterable[str] | None, program: str, *, calls: int) -> Iterator[bytes]:
    """Yield the deposit events that the program logged, once the whole log has shown itself to be genuine."""
    if logs is None:
        raise _Doubtful(asides.LOG_TRUNCATED)
    stack: list[str] = []
    written: list[str] = []
    for line in logs:
        if "\n" in line or "\r" in line:
            raise _Doubtful(asides.LOG_FORGED)  # to whoever splits logs into lines, it is several
        if line == _TRUNCATED:
            raise _Doubtful(asides.LOG_TRUNCATED)
        if invoke := _INVOKE.fullmatch(line):
            stack.append(invoke[1])
            calls -= invoke[1] == program
            _require(int(invoke[2]) == len(stack))
        elif success := _SUCCESS.fullmatch(line):
            _require(bool(stack) and stack.pop() == success[1])
        elif line.startswith(_DATA) and stack[-1:] == [program]:
            written.append(line.removeprefix(_DATA))
    _require(not stack and not calls)
    yield from filter(None, map(_read_data, written))


def _require(genuine: bool) -> None:
    if not genuine:
        raise _Doubtful(asides.LOG_FORGED)


def _read_data(text: str) -> bytes | None:
    """Return a logged deposit event; None for anything else that programs log, such as several pieces in one line."""
    try:
        payload = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return payload if payload.startswith(EVENT_TAG) else None


def _read_event(payload: bytes, mint: str) -> _DepositEvent | None:
    if len(payload) != _EVENT_BYTES:
        raise _Doubtful(asides.EVENT_UNREADABLE)
    amount = int.from_bytes(payload[_AMOUNT], "little")
    if encode_base58(payload[_MINT]) != mint or not amount:
        return None
    return _DepositEvent(deposit_code=payload[_CODE].hex().upper(), amount=amount)
