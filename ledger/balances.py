"""The hot balances: Redis decides what can be spent. One script per transition, each idempotent by its ids."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from ledger.entries import AccountId, ChargeRecord, RequestId
from ledger.errors import (
    BooksUnderPressure,
    BrokenInvariant,
    HoldEnded,
    HoldUnknown,
    InactiveAccount,
    InsufficientFunds,
    LedgerError,
    ReadOnlyToken,
    TooManyRequests,
    UnknownToken,
)
from ledger.holds import AccountRow, Hold, HoldPolicy, OutboxEntry, ReadOnlyStanding, Renewal, Settlement, ShardMeta, Standing
from ledger.money import AMOUNT_MAX, Microunits
from ledger.outbox import OutboxLink
from ledger.shard_link import Answer, connect_redis
from ledger.tokens import ApiToken

__all__ = ["AccountRow", "Balances", "Hold", "HoldPolicy", "OutboxEntry", "Renewal", "Settlement", "ShardMeta", "Standing", "connect_redis"]

RENEWALS_MAX = 200  # per script, so that no renewal keeps the shard from others for long
EXPIRIES_MAX = 100


class Balances(OutboxLink):
    """Holds and charges. Any method may raise BalanceUnavailable (the outcome is unknown, repeating is safe)."""

    async def standing(self, token: ApiToken) -> Standing:
        """Return the account's figures, also where account or token are no longer active.

        Raises:
            UnknownToken: the open shard has no such token.
            ShardClosed: the shard cannot tell.
        """
        answer = await self.run("check_token", token.shard, token.account, token.digest)
        if answer[0] == b"unknown_token":
            raise UnknownToken("unknown")
        if answer[0] == b"read_only":
            return _standing(answer, ReadOnlyStanding)
        standing = _standing(answer)
        return replace(standing, status="revoked") if answer[0] == b"revoked" else standing

    async def authenticate(self, token: ApiToken, *, to_look: bool = False) -> Standing:
        """Return the figures of an active account with an active token, one that may spend unless the caller only lets it look.

        Raises:
            UnknownToken: the open shard has no such token.
            InactiveAccount: the token is revoked, or the account suspended or closed.
            ReadOnlyToken: the token is for looking only.
            ShardClosed: the shard cannot tell.
        """
        standing = await self.standing(token)
        if standing.status != "active":
            raise InactiveAccount(standing.status)
        if standing.read_only and not to_look:
            raise ReadOnlyToken
        return standing

    async def place_hold(self, token: ApiToken, request_id: RequestId, *, minimum: int, amount: int, policy: HoldPolicy) -> Hold:
        """Set `amount` aside, or what is available if that is at least `minimum`. The same id returns the same hold.

        Raises:
            InsufficientFunds: less than `minimum` is available; nothing changed.
            TooManyRequests: the account has its most holds open.
            HoldEnded: this id's hold was ended before.
            UnknownToken, InactiveAccount: as in `authenticate`.
            BooksUnderPressure: Redis is filling up, or the journal is too far behind.
            ShardClosed: the shard is not open.
            BalanceUnavailable: Redis did not answer; the hold may or may not exist, so void it.
        """
        _check_amounts(minimum, amount)
        if self.memory_short if monotonic() < self.memory_known_until else await self.under_pressure():
            raise BooksUnderPressure("Redis is nearly full")
        epoch, answer = await self.run_in(
            "place_hold", token.shard, token.account, token.digest, request_id, min(minimum, amount), amount,
            policy.overdraft_max, policy.concurrent_max, policy.ttl_ms, policy.outbox_max,
        )  # fmt: skip
        if answer[0] != b"ok":
            raise _refusal(answer, required=min(minimum, amount), concurrent_max=policy.concurrent_max)
        return Hold(token=token, request_id=request_id, amount=answer[10], epoch=epoch, standing=_standing(answer))

    async def replace_hold(self, hold: Hold, *, policy: HoldPolicy) -> Hold:
        """Place the hold of a running stream again in the shard's new epoch, whatever the balance.

        Raises:
            HoldEnded: it was ended in the new epoch.
            HoldUnknown: the rebuilt shard has no such account.
        """
        epoch, answer = await self.run_in("replace_hold", hold.token.shard, hold.token.account, hold.request_id, hold.amount, policy.ttl_ms)
        if answer[0] != b"ok":
            raise HoldEnded(hold.request_id) if answer[0] == b"ended" else HoldUnknown(hold.request_id)
        return replace(hold, epoch=epoch, replaced=True)

    async def extend(self, hold: Hold, amount: int, *, overdraft_max: int) -> Hold:
        """Let a hold grow to `amount` in total, all of it or nothing.

        Raises:
            InsufficientFunds: the account cannot cover the growth; the hold stays as it was.
            HoldUnknown: the hold was ended, or its epoch has passed with a rebuild.
            BalanceUnavailable: no answer, which is not a refusal: go on until the deadline.
        """
        _check_amounts(0, amount)
        answer = await self.run("extend", hold.token.shard, hold.request_id, amount, overdraft_max, epoch=hold.epoch)
        if answer[0] == b"unknown":
            raise HoldUnknown(hold.request_id)
        if answer[0] == b"insufficient":
            raise InsufficientFunds(required=amount - hold.amount, available=answer[4], balance=answer[3])
        standing = replace(hold.standing, balance=Microunits(answer[3]), available=Microunits(answer[4]), held=Microunits(answer[3] - answer[4]))
        return replace(hold, amount=Microunits(answer[6]), standing=standing)

    async def renew(self, renewals: Sequence[Renewal], *, ttl_ms: int) -> set[RequestId]:
        """Move the deadlines of holds and note their checkpoints; return the ids that their shard does not know.

        Raises:
            ShardClosed, BalanceUnavailable: some were not renewed; those of other shards were.
        """
        groups: dict[tuple[int, int], list[Renewal]] = defaultdict(list)
        for renewal in renewals:
            groups[renewal.hold.token.shard, renewal.hold.epoch].append(renewal)
        calls = (self._renew(shard, epoch, group, ttl_ms=ttl_ms) for (shard, epoch), group in groups.items())
        results = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return {request_id for unknown in results if isinstance(unknown, set) for request_id in unknown}

    async def _renew(self, shard: int, epoch: int, renewals: Sequence[Renewal], *, ttl_ms: int) -> set[RequestId]:
        unknown: set[RequestId] = set()
        for start in range(0, len(renewals), RENEWALS_MAX):
            part = renewals[start : start + RENEWALS_MAX]
            answer = await self.run("renew", shard, ttl_ms, *_renewal_words(part), epoch=epoch)
            unknown |= {renewal.hold.request_id for renewal, found in zip(part, answer[3:], strict=True) if not found}
        return unknown

    async def settle(self, hold: Hold, record: ChargeRecord) -> Settlement:
        """Turn a hold into the charge for what was used, in full even above the hold. A repeat changes nothing.

        Raises:
            HoldUnknown: the shard has neither the hold nor a trace of a charge; the late way decides.
            ShardClosed: not open, or not in the hold's epoch.
        """
        if record.request_id != hold.request_id:
            raise BrokenInvariant(f"record of {record.request_id} cannot settle the hold of {hold.request_id}")
        return await self.settle_charge(record, account=hold.token.account, shard=hold.token.shard, epoch=hold.epoch)

    async def settle_charge(self, record: ChargeRecord, *, account: AccountId, shard: int, epoch: int) -> Settlement:
        """Settle as `settle` does, for a caller that no longer has the hold itself."""
        _check_amounts(0, record.amount)
        _, answer = await self.run_in("settle", shard, account, record.request_id, record.amount, record.to_json(), *record.made, epoch=epoch)
        if answer[0] == b"unknown":
            raise HoldUnknown(record.request_id)
        return Settlement(balance=answer[3], available=answer[4], charge=answer[6], seq=answer[7], epoch=epoch, repeated=answer[0] == b"duplicate")

    async def made_lately(self, account: AccountId, shard: int, digests: Sequence[str]) -> frozenset[str]:
        """Return those of `digests`, of which there is at least one, that settlements of today or yesterday made this account's.

        Raises:
            ShardClosed: the shard cannot tell.
        """
        answer = await self.run("find_made", shard, account, *digests)
        return frozenset(digest for digest, found in zip(digests, answer[3:], strict=True) if found)

    async def void(self, hold: Hold) -> Standing:
        """Release a hold in full; afterwards this id can hold or charge nothing in this epoch. Repeating is harmless."""
        answer = await self.void_request(hold.request_id, account=hold.token.account, shard=hold.token.shard, epoch=hold.epoch)
        return replace(hold.standing, balance=Microunits(answer[3]), available=Microunits(answer[4]), held=Microunits(answer[3] - answer[4]))

    async def void_request(self, request_id: RequestId, *, account: AccountId, shard: int, epoch: int | None = None) -> Answer:
        """Void as `void` does, for a caller whose `place_hold` had no answer."""
        return await self.run("void", shard, account, request_id, epoch=epoch)

    async def expire(self, shard: int) -> int:
        """End the holds of a shard that nobody renewed, charging their checkpoints; return how many."""
        ended = 0
        while True:
            answer = await self.run("expire", shard, EXPIRIES_MAX)
            ended += int(answer[3])
            if answer[3] < EXPIRIES_MAX:
                return ended
            await asyncio.sleep(0)


def _check_amounts(minimum: int, amount: int) -> None:
    if not (0 <= minimum <= AMOUNT_MAX and 0 <= amount <= AMOUNT_MAX):
        raise BrokenInvariant(f"amounts {minimum} and {amount} are not microunits that the books can hold")


def _standing(answer: Answer, kind: type[Standing] = Standing) -> Standing:
    """Read the figures of check_token and place_hold: ..., held, status, charged, line."""
    line = answer[9]
    return kind(balance=answer[3], available=answer[4], held=answer[6], status=answer[7].decode(), charged=answer[8], line=int(line) if line else None)


def _refusal(answer: Answer, *, required: int, concurrent_max: int) -> LedgerError:
    status = answer[0].decode()
    match status:
        case "unknown_token":
            return UnknownToken("unknown")
        case "revoked" | "suspended":
            return InactiveAccount(status)
        case "closed_account":
            return InactiveAccount("closed")
        case "read_only":
            return ReadOnlyToken()
        case "insufficient":
            return InsufficientFunds(required=required, available=answer[4], balance=answer[3])
        case "busy":
            return TooManyRequests(concurrent_max=concurrent_max, balance=answer[3])
        case "ended":
            return HoldEnded("this hold was ended before")
        case "pressure":
            return BooksUnderPressure("the journal is too far behind")
        case _:
            return BrokenInvariant(f"place_hold answered {status}")


def _renewal_words(renewals: Sequence[Renewal]) -> list[str | int]:
    return [word for renewal in renewals for word in (renewal.hold.request_id, renewal.charge, renewal.detail)]
