"""Fetching listed transactions: in parallel but bounded, their signatures verified, held against a second provider where that counts."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from chainwatch.calls import Row, read_transaction_answer
from chainwatch.decode import ConfirmedTransaction, read_transaction
from chainwatch.deposits import VaultChange, read_move
from chainwatch.errors import BadAnswer, ChainError, Disagreement, Gap, ProviderFailure, SecondProviderMissing, Throttled, Unavailable
from chainwatch.naming import NamingRules
from chainwatch.providers import Provider, Providers
from chainwatch.signatures import verify_signatures
from chainwatch.unreadable import Unreadable
from ledger.deposit_values import Vault
from telemetry import metrics

log = structlog.get_logger("chainwatch")

FETCHES_MAX: Final = 16
ATTEMPTS_MAX: Final = 4
WAIT_SECONDS_MAX: Final = 5.0
BACKLOG_ROWS: Final = 20  # from so many on, every provider's rate goes into fetching


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A listed transaction as one provider told it; `change` is None where it left the vault as it was."""

    row: Row
    transaction: ConfirmedTransaction
    change: VaultChange | None
    provider: Provider

    @property
    def slot(self) -> int:
        """Its slot."""
        return self.transaction.slot

    @property
    def pre(self) -> int:
        """The vault's balance before; only of one that changed it."""
        return self.change.pre if self.change else 0

    @property
    def post(self) -> int:
        """The vault's balance after; only of one that changed it."""
        return self.change.post if self.change else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How two providers' words on one transaction are held against one another.

    Only the message is signed. Keys from lookup tables, calls of programs and logs are a provider's own word, and name accounts too.
    """

    rules: NamingRules
    references: Mapping[str, str]

    def agree(self, one: Fetched, other: Fetched) -> bool:
        """Whether both tell the same, as far as it decides about money."""
        return self._substance(one) == self._substance(other)

    def _substance(self, told: Fetched) -> tuple[object, ...]:
        transaction = told.transaction
        naming = self.rules.name(transaction, self.references, amount=told.post - told.pre)
        return (transaction.wire, transaction.slot, transaction.meta.failed, told.change, _calls(transaction), naming)


class Fetcher:
    """Fetches transactions of one vault. What is above `cross_check_above` microunits is believed to two providers only."""

    def __init__(self, providers: Providers, vault: Vault, *, cross_check_above: int | None) -> None:
        self._providers, self._vault, self._cross_check_above = providers, vault, cross_check_above
        self._slots = asyncio.Semaphore(FETCHES_MAX)

    async def fetch(self, rows: Sequence[Row], *, reader: Provider) -> tuple[list[Fetched], ChainError | None]:
        """Return the transactions of `rows`, up to the first slot of which one could not be had; the second value says why.

        Rows are of ascending slots. A listed transaction is never passed over.
        """
        is_backlog = len(rows) >= BACKLOG_ROWS
        tasks = [self._fetch_one(row, self._order(reader, turn if is_backlog else 0)) for turn, row in enumerate(rows)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        fetched: list[Fetched] = []
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, ChainError):
                return [one for one in fetched if one.slot < row.slot], result
            if isinstance(result, BaseException):
                raise result
            fetched.append(result)
        return fetched, None

    async def confirm(self, moves: Sequence[Fetched], *, rules: NamingRules, references: Mapping[str, str]) -> tuple[list[Fetched], ChainError | None]:
        """Return the moves that may be recorded, up to the first slot of which one is to be held back; the second value says why.

        Others must tell the same of them, also of whom they name by `rules` and `references` (deposit codes by key).
        """
        cheap, comparison = len(moves) < BACKLOG_ROWS, Comparison(rules=rules, references=references)
        results = await asyncio.gather(*(self._confirm_one(move, comparison, cheap=cheap) for move in moves), return_exceptions=True)
        for move, result in zip(moves, results, strict=True):
            if isinstance(result, ChainError):
                return [one for one in moves if one.slot < move.slot], result
            if isinstance(result, BaseException):
                raise result
        return list(moves), None

    def _order(self, first: Provider, turn: int) -> list[Provider]:
        """Return the providers in the order to ask; while much is to be read each begins with another one."""
        usable = self._providers.usable()
        turn = turn % len(usable) if usable else 0
        ordered = usable[turn:] + usable[:turn]
        return ordered if turn else [first, *(one for one in ordered if one is not first)]

    async def _fetch_one(self, row: Row, order: Sequence[Provider]) -> Fetched:
        async with self._slots:
            for attempt in range(ATTEMPTS_MAX):
                failures: list[ChainError] = []
                for provider in order:
                    try:
                        return await self._read(row, provider)
                    except (ProviderFailure, Gap, Disagreement) as failure:
                        failures.append(failure)
                if not any(isinstance(one, Unavailable | Throttled) for one in failures):
                    break  # they answered; the next look at the chain asks them again
                if attempt < ATTEMPTS_MAX - 1:
                    await asyncio.sleep(min(WAIT_SECONDS_MAX, max(0.05 * 2**attempt, min(one.rest.seconds for one in order))))
            raise next((one for one in failures if not isinstance(one, ProviderFailure)), failures[0])

    async def _read(self, row: Row, provider: Provider) -> Fetched:
        """Return one listed transaction as `provider` tells it, if it does not contradict the list."""
        answer = await read_transaction_answer(provider, row.signature)
        if answer is None:
            metrics.chain_gaps_total.labels(provider.host).inc()
            raise Gap(f"{provider.host} does not give the listed transaction {row.signature}")
        transaction, change = self._decode(answer, row.signature, provider)
        if transaction.slot != row.slot or transaction.meta.failed:
            _note_disagreement(row.signature, provider, "it is listed otherwise")
            raise Disagreement(f"{provider.host} tells of transaction {row.signature} otherwise than it was listed")
        return Fetched(row=row, transaction=transaction, change=change, provider=provider)

    def _decode(self, answer: object, signature: str, provider: Provider) -> tuple[ConfirmedTransaction, VaultChange | None]:
        try:
            transaction = read_transaction(answer, signature=signature)  # type: ignore[arg-type]  # it refuses what is no mapping
            verify_signatures(transaction.wire)
            return transaction, read_move(transaction, self._vault)
        except Unreadable as fault:
            raise BadAnswer(f"{provider.host} told transaction {signature} wrongly: {fault.reason}") from fault
        except BaseException as panic:
            if type(panic).__name__ != "PanicException":  # how solders fails: no Exception, so a task would die of it
                raise
            raise BadAnswer(f"{provider.host} told transaction {signature} in a way that cannot be read") from None

    async def _confirm_one(self, move: Fetched, comparison: Comparison, *, cheap: bool) -> None:
        """Hold one move against other providers.

        Raises:
            Disagreement: another provider tells it differently, and no third one tells it the same.
            SecondProviderMissing: it is above the limit, and no other provider can show it.
        """
        above = self._cross_check_above is not None and move.post - move.pre > self._cross_check_above
        others = [one for one in self._providers.usable() if one is not move.provider and one.slot >= move.slot]
        differs = None
        for other in others if above else [one for one in others if one.bucket.is_idle] if cheap else []:
            try:
                agrees = comparison.agree(move, await self._fetch_again(move, other))
            except (ProviderFailure, Gap):
                continue
            if agrees:
                return
            differs = other
            _note_disagreement(move.row.signature, other, "a second provider tells it differently")
        if differs is not None:
            raise Disagreement(f"{move.provider.host} and {differs.host} tell of transaction {move.row.signature} differently")
        if above:
            raise SecondProviderMissing(
                f"a deposit of {move.post - move.pre} microunits ({move.row.signature}) waits until a second RPC provider shows the same: "
                "name another one in chain.rpc_urls, or raise chain.cross_check_above"
            )

    async def _fetch_again(self, move: Fetched, other: Provider) -> Fetched:
        """Return the same transaction as another provider tells it."""
        async with self._slots:
            answer = await read_transaction_answer(other, move.row.signature)
        if answer is None:
            raise Gap(f"{other.host} does not have transaction {move.row.signature}")
        transaction, change = self._decode(answer, move.row.signature, other)  # one that forges shows nothing, for or against
        return Fetched(row=move.row, transaction=transaction, change=change, provider=other)


def _calls(transaction: ConfirmedTransaction) -> list[tuple[int, list[tuple[object, ...]]]]:
    """Return what programs called, without the heights, which some providers leave out."""
    return [(index, [(one.program, one.accounts, one.data) for one in group]) for index, group in transaction.meta.inner]


def _note_disagreement(signature: str, provider: Provider, reason: str) -> None:
    metrics.chain_disagreements_total.inc()
    log.error("providers_disagree", signature=signature, provider=provider.host, reason=reason)
