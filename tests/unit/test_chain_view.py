"""What the control API keeps in memory of the chain, whatever the journal does."""

import asyncio
from hashlib import sha256

import pytest

from config.settings import Settings
from control import chain_view
from control.chain_view import ChainView
from control.deposit_codes import DepositCodes
from ledger.base58 import encode_base58
from ledger.deposit_values import ChainStatus, Vault
from ledger.entries import AccountId
from ledger.errors import JournalUnavailable

TREASURY, MINT = (encode_base58(sha256(text).digest()) for text in (b"treasury", b"mint"))
VAULT = Vault(genesis="somewhere", address="vault", owner=TREASURY, mint=MINT, token_program="program")
ACCOUNT = AccountId(7)


class Journal:
    """Answers, fails or hangs as a test wants."""

    def __init__(self) -> None:
        self.pending, self.mood, self.asked = 0, "well", 0

    async def vault(self) -> Vault | None:
        self.asked += 1
        if self.mood == "away":
            raise JournalUnavailable("away")
        if self.mood == "hanging":
            await asyncio.Event().wait()
        return VAULT

    async def status(self) -> ChainStatus | None:
        return None

    async def pending_by_account(self) -> dict[AccountId, int]:
        return {ACCOUNT: self.pending}


def a_view(journal: Journal) -> ChainView:
    return ChainView(Settings.model_validate({"chain": {"treasury": TREASURY, "rpc_urls": "https://rpc.example.com"}}), journal)


async def test_what_is_known_stays_while_the_journal_fails_and_is_renewed_after() -> None:
    journal = Journal()
    view = a_view(journal)
    journal.pending = 5
    await view.refresh()
    journal.mood, journal.pending = "away", 9
    await view.refresh()
    during = view.pending(ACCOUNT), view.pay_to is not None
    journal.mood = "well"
    await view.refresh()

    assert during == (5, True)
    assert view.pending(ACCOUNT) == 9


async def test_what_a_balance_may_have_already_is_asked_for_anew_and_never_by_a_question_from_before() -> None:
    journal = Journal()
    view = a_view(journal)
    journal.pending = 5
    await view.refresh()
    earlier = asyncio.create_task(view.refresh())
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it has its answer, and has not brought it yet
    journal.pending = 0

    later = await asyncio.gather(*(view.still_pending(ACCOUNT) for _ in range(10)))
    await earlier

    assert later == [0] * 10
    assert journal.asked <= 4
    assert await view.still_pending(ACCOUNT) == 0


async def test_a_balance_does_not_wait_long_for_a_journal_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_view, "ANSWER_SECONDS_MAX", 0.01)
    journal = Journal()
    view = a_view(journal)
    journal.pending = 5
    await view.refresh()
    journal.mood = "hanging"

    assert await asyncio.wait_for(view.still_pending(ACCOUNT), 10) == 5


async def test_a_journal_that_hangs_is_asked_one_question_and_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_view, "READ_SECONDS_MAX", 0.01)
    journal = Journal()
    view = a_view(journal)
    journal.mood = "hanging"

    for _ in range(3):
        await view.refresh()

    assert journal.asked == 1
    assert view.pay_to is None
    assert view.closed


async def test_the_first_who_comes_has_it_looked_up_once() -> None:
    journal = Journal()
    view = a_view(journal)

    await view.look()
    await view.look()

    assert journal.asked == 1
    assert view.pay_to is not None
    assert view.cluster == "somewhere"


async def test_with_deposits_off_the_journal_is_left_in_peace() -> None:
    journal = Journal()
    view = ChainView(Settings(), journal)

    await view.look()
    await view.watch()

    assert journal.asked == 0
    assert view.pending(ACCOUNT) == 0


class Accounts:
    """Knows every account; fails while it is told to."""

    def __init__(self) -> None:
        self.away, self.asked = False, 0

    async def find(self, text: str) -> object:
        self.asked += 1
        if self.away:
            raise JournalUnavailable("away")
        return type("Account", (), {"deposit_code": text.zfill(16)})()


async def test_a_code_is_asked_for_once_and_after_a_failure_not_at_once_again() -> None:
    accounts, now = Accounts(), [100.0]
    codes = DepositCodes(accounts, clock=lambda: now[0])  # type: ignore[arg-type]
    accounts.away = True
    first = [await codes.find(ACCOUNT) for _ in range(3)]
    accounts.away = False
    now[0] += 6
    then = [await codes.find(ACCOUNT) for _ in range(3)]

    assert first == [None, None, None]
    assert then == ["0000000000000007"] * 3
    assert accounts.asked == 2


async def test_the_memory_of_codes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.deposit_codes.CODES_MAX", 2)
    accounts = Accounts()
    codes = DepositCodes(accounts)  # type: ignore[arg-type]

    for number in (1, 2, 1, 3, 1):
        await codes.find(AccountId(number))

    assert accounts.asked == 3
    assert list(codes._known) == [3, 1]
