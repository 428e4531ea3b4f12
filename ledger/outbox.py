"""The shards' side of the books: reading the outbox, applying what the journal owes, opening and closing shards."""

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.entries import SHARDS, AccountId
from ledger.errors import BrokenInvariant, ShardClosed
from ledger.holds import AccountRow, OutboxEntry
from ledger.money import AMOUNT_MAX
from ledger.shard_link import ShardLink, epoch_prefix, outbox_key

PIPELINE_MAX = 500
# Changes of these kinds are money: they get a statement line even when they come to nothing.
MONEY_KEYS = ("charge:", "adjust:", "credit:", "deposit:")
LATE_KEYS = ("charge:", "adjust:")


def counts_as_line(key: str, amount: int) -> bool:
    """Tell whether a change owed by the journal gets a statement number: the same rule for script and journal."""
    return amount != 0 or key.startswith(MONEY_KEYS)


def late_charge(key: str, amount: int) -> int:
    """Return what an applied change adds to the sum ever charged: late charges alone are charges."""
    return -amount if key.startswith(LATE_KEYS) else 0


class OutboxLink(ShardLink):
    """What poster, appliers and rebuild need of a shard."""

    async def apply_change(
        self,
        shard: int,
        *,
        due_seq: int,
        account: AccountId,
        key: str,
        amount: int,
        fields: Mapping[str, str],
        detail: str,
        epoch: int | None = None,
    ) -> str:
        """Apply one change that the journal owes; return `ok`, `done` (was applied before) or `gap` (must wait).

        `amount` is the signed change of the balance; an empty value in `fields` removes the field.
        """
        if abs(amount) > AMOUNT_MAX:
            raise BrokenInvariant(f"change {key} of {amount} microunits is beyond what the books can hold")
        pairs = [part for pair in fields.items() for part in pair]
        counts = int(counts_as_line(key, amount))
        answer = await self.run(
            "apply_change", shard, due_seq, account, key, amount, late_charge(key, amount), counts, detail, *pairs, epoch=epoch
        )  # fmt: skip
        return str(answer[0].decode())

    async def read_outbox(self, shard: int, *, after: int, count: int) -> list[OutboxEntry]:
        """Return up to `count` entries with a seq above `after`, in order; gaps are for the caller to refuse.

        Raises:
            BrokenInvariant: an entry cannot be read.
        """
        [rows] = await self._read_plain([("XRANGE", outbox_key(shard), f"({after}-0", "+", "COUNT", count)])
        return [_read_entry(identity, fields) for identity, fields in rows]

    async def shards_overdue(self) -> list[int]:
        """Return the shards that have a hold whose deadline has passed by Redis's own clock, and those of which no epoch is known.

        Raises:
            BalanceUnavailable: Redis did not answer.
        """
        [(seconds, microseconds)] = await self._read_plain([("TIME",)])
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        holds = [("ZCOUNT", f"{epoch_prefix(shard, self.epoch(shard))}holds", "-inf", now_ms) for shard in range(SHARDS)]
        return [shard for shard, overdue in enumerate(await self._read_plain(holds)) if overdue or not self.epoch(shard)]

    async def await_entries(self, ends: Mapping[int, int], *, seconds_max: float) -> None:
        """Wait until the outbox of one of the shards has an entry above its number in `ends`, `seconds_max` at most.

        Raises:
            BalanceUnavailable: Redis did not answer, or has a user for us who may not wait.
        """
        keys, numbers = [outbox_key(shard) for shard in ends], [f"{end}-0" for end in ends.values()]
        await self._command("XREAD", "COUNT", 1, "BLOCK", int(seconds_max * 1000), "STREAMS", *keys, *numbers)

    async def mark_posted(self, shard: int, epoch: int, posted: int) -> None:
        """Tell the shard how far the journal has got with its outbox; the figure never falls.

        Raises:
            ShardClosed: Redis has less than the journal; it was rolled back, and the shard is closed now.
        """
        answer = await self.run("mark_posted", shard, posted, epoch=epoch)
        if answer[0] == b"rolled_back":
            await self.close_shard(shard, epoch)
            raise ShardClosed(shard)

    async def trim_outbox(self, shard: int, min_seq: int) -> int:
        """Forget posted entries below `min_seq` (roughly: a few more may stay); return how many went."""
        return int((await self.run("trim_outbox", shard, min_seq))[3])

    async def account_state(self, account: AccountId, shard: int) -> tuple[int, int] | None:
        """Return an account's statement number and balance at one instant; None where the open shard has no such account."""
        answer = await self.run("account_state", shard, account)
        return (int(answer[5]), int(answer[3])) if answer[0] == b"ok" else None

    async def account_month(self, account: AccountId, shard: int) -> tuple[int, int]:
        """Return the latest month in which the account reported usage, such as 202611, and its tokens; zeros where there is none."""
        answer = await self.run("account_state", shard, account)
        return int(answer[6]), int(answer[7])

    async def close_shard(self, shard: int, epoch: int | None = None) -> None:
        """Close a shard, whatever its epoch or only if it is in `epoch`. A missing one stays missing."""
        await self.call("close_shard", shard, "" if epoch is None else epoch)

    async def open_shard(self, shard: int, *, epoch: int, seq: int, due_seq: int, posted: int, instance: str, mode: str) -> None:
        """Open a shard in a new epoch; a repeat with the same epoch is harmless.

        Raises:
            BrokenInvariant: the epoch is not newer than what is there, or the outbox has entries beyond `seq`.
        """
        answer = await self.call("open_shard", shard, epoch, seq, due_seq, posted, instance, mode)
        if answer[0] != b"ok":
            raise BrokenInvariant(f"shard {shard} cannot be opened in epoch {epoch} at {seq}: {b' '.join(answer).decode()}")
        self._learn_epoch(shard, epoch)

    async def write_accounts(self, shard: int, epoch: int, rows: Sequence[AccountRow]) -> None:
        """Write accounts under the names of an epoch that is not open yet; writing them again replaces them.

        Raises:
            BrokenInvariant: the epoch is open, so that its balances may be moving.
        """
        meta = await self.read_meta(shard)
        if meta is not None and meta.epoch == epoch and meta.state == "open":
            raise BrokenInvariant(f"shard {shard} is open in epoch {epoch}; its accounts are not the journal's to write")
        prefix = epoch_prefix(shard, epoch)
        for start in range(0, len(rows), PIPELINE_MAX):
            commands: list[tuple[Any, ...]] = []
            for row in rows[start : start + PIPELINE_MAX]:
                name = f"{prefix}a:{row.account}"
                commands += [("DEL", name), ("HSET", name, *_account_fields(row)), ("SADD", f"{prefix}accounts", row.account)]
            await self._pipeline(commands)

    async def account_totals(self, shard: int, epoch: int) -> tuple[int, int]:
        """Return how many accounts the epoch holds and the sum of their balances."""
        prefix = epoch_prefix(shard, epoch)
        accounts = await self._members(f"{prefix}accounts")
        count = total = 0
        for start in range(0, len(accounts), PIPELINE_MAX):
            answers = await self._pipeline([("HGET", f"{prefix}a:{account}", "balance") for account in accounts[start : start + PIPELINE_MAX]])
            balances = [int(answer) for answer in answers if answer is not None]
            count, total = count + len(balances), total + sum(balances)
        return count, total

    async def drop_epoch(self, shard: int, epoch: int) -> None:
        """Forget the accounts and holds of an epoch that has passed; its tombstones go by themselves.

        Raises:
            BrokenInvariant: the epoch is the shard's present one.
        """
        meta = await self.read_meta(shard)
        if meta is not None and meta.epoch == epoch and meta.state == "open":
            raise BrokenInvariant(f"shard {shard} is open in epoch {epoch}")
        prefix = epoch_prefix(shard, epoch)
        names = [f"{prefix}a:{account}" for account in await self._members(f"{prefix}accounts")]
        names += [f"{prefix}h:{request_id.decode()}" for request_id in await self._command("ZRANGE", f"{prefix}holds", 0, -1)]
        for start in range(0, len(names), PIPELINE_MAX):
            await self._pipeline([("UNLINK", name) for name in names[start : start + PIPELINE_MAX]])
        await self._pipeline([("UNLINK", f"{prefix}holds"), ("UNLINK", f"{prefix}accounts")])

    async def _members(self, name: str) -> list[int]:
        members: set[int] = set()
        cursor: int | str = "0"
        while True:
            cursor, page = await self._command("SSCAN", name, cursor, "COUNT", PIPELINE_MAX)
            members.update(int(member) for member in page)
            if int(cursor) == 0:
                return sorted(members)


def _account_fields(row: AccountRow) -> list[str | int]:
    fields: list[str | int] = ["balance", row.balance, "held", 0, "holds", 0, "n", row.n, "charged", row.charged, "status", row.status]
    if row.line is not None:
        fields += ["line", row.line]
    fields += ["tier", row.tier, "org", row.org]
    if row.funded:
        fields += ["funded", 1]
    if row.month:
        fields += ["month", row.month, "tracked", row.tracked]
    for digest, state in row.tokens.items():
        fields += [f"t:{digest}", str(state)]
    for digest, key_id in row.keys.items():
        fields += [f"k:{digest}", key_id]
    return fields


def _read_entry(identity: bytes, fields: Any) -> OutboxEntry:
    try:
        pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
        texts = {name.decode(): value.decode() for name, value in pairs}
        return OutboxEntry(
            seq=int(identity.split(b"-")[0]),
            kind=texts["kind"],
            key=texts["key"],
            account=AccountId(int(texts["account"])),
            n=int(texts["n"]) if texts["n"] else None,
            amount=int(texts["amount"]),
            balance=int(texts["balance"]),
            at=int(texts["at"]),
            epoch=int(texts["epoch"]),
            due=int(texts["due"]) if texts["due"] else None,
            detail=texts["detail"],
        )
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise BrokenInvariant(f"outbox entry {identity!r} cannot be read: {error!r}") from error
