"""The same bytes through both data paths, said by a client in the pieces that a test wants.

Nothing here waits for a time to pass: a path is done when its gateway waits for nothing but its client.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from mitmproxy import ctx
from structlog.testing import capture_logs

from addons.local_answers import FreeQuota
from ledger.accounts import NewAccount
from ledger.entries import ChargeRecord, RequestId
from ledger.tokens import parse_token
from metering.pricing import price_record
from tests.fakes.books import Books
from tests.fakes.careful_provider import Answering, CarefulProvider, Received, Script, cut, turns
from tests.fakes.gateway import CARD, PROVIDERS, Stage, open_stage
from tests.fakes.said import SaidAnswer, read_answers

BALANCE = 10**15
CALM = 4  # looks in a row at which nothing has moved
SECONDS_MAX = 20.0
TOKEN = b"l5_TOKEN_OF_THIS_PATH"  # stands for an api_token in the bytes of a case


class Complaints(logging.Handler):
    """What mitmproxy and our own logs say of things that must never happen."""

    NEVER = frozenset({"hook_failed", "ending_failed", "meter_broken", "dial_refused", "settlement_is_slow"})

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # Clients of tests before this one end when the garbage collector comes to them, in whatever loop there is then.
        if record.name != "asyncio" or "was never retrieved" not in record.getMessage():
            self.found.append(self.format(record))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Fail at the end of the block if there was one."""
        logging.getLogger().addHandler(self)
        try:
            with capture_logs() as entries:
                yield
        finally:
            logging.getLogger().removeHandler(self)
        assert self.found + [str(entry) for entry in entries if entry["event"] in self.NEVER] == []


class _ClientSide(asyncio.Protocol):
    def __init__(self) -> None:
        self.received, self.closed, self._left = b"", False, False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> None:
        self.closed = self.closed or not self._left

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = self.closed or not self._left

    def leave(self) -> None:
        self._left = True
        self.transport.close()


@dataclass(frozen=True)
class Outcome:
    """What one path made of a case."""

    asked: tuple[Received, ...]
    control: tuple[Received, ...]
    answers: tuple[SaidAnswer, ...]
    leftover: bytes  # what came after the last answer that could be read
    closed: bool
    charges: tuple[ChargeRecord, ...]


@dataclass
class Path:
    """One gateway with one account, whose provider and control are careful."""

    stage: Stage
    account: NewAccount
    provider: CarefulProvider
    control: CarefulProvider
    outbox: int = 0
    balance: int = BALANCE

    async def run(self, said: bytes, *, cuts: Sequence[int], script: Script, control: Script) -> Outcome:
        """Say these bytes on one connection, cut in pieces, and return what became of them. No hold and no connection is left."""
        ctx.master, ctx.options = self.stage.master, self.stage.master.options  # mitmproxy knows one master in a process
        self.stage.assembly.gateway._quota = FreeQuota()  # it is one of minutes, in which there are thousands of cases
        self.provider.begin(script)
        self.control.begin(control)
        with Complaints().listening():
            client = await self._speak(said, cuts)
        charges = await self._charges()
        assert self.provider.faults == []
        assert self.control.faults == []
        answers, leftover = read_answers(self._without_token(client.received), closed=client.closed, balance=self.balance)
        self.balance = (await self.stage.standing(self.account))[0]
        return Outcome(
            self._asked(self.provider), self._asked(self.control), answers, leftover, client.closed, tuple(_comparable(record) for record in charges)
        )  # fmt: skip

    async def _speak(self, said: bytes, cuts: Sequence[int]) -> _ClientSide:
        async with asyncio.timeout(SECONDS_MAX):
            _, client = await asyncio.get_running_loop().create_connection(_ClientSide, "127.0.0.1", self.stage.port)
            for piece in cut(self._with_token(said), cuts):
                if client.closed:
                    break
                client.transport.write(piece)
                await turns()
            await self._calm(client)
            client.leave()
            await self._over(client)
        return client

    async def _calm(self, client: _ClientSide) -> None:
        calm, before = 0, None
        while calm < CALM:
            await asyncio.sleep(0.0005)
            now = (len(client.received), client.closed, len(self.provider.asked), self.provider.busy, self.control.busy, self._waits())
            calm = calm + 1 if now == before and now[3:] == (0, 0, False) else 0
            before = now

    def _waits(self) -> bool:
        """Whether the gateway waits for anybody but the client."""
        return any(not _wants_body(exchange.stream) for exchange in self.stage.assembly.links.running)

    async def _over(self, client: _ClientSide) -> None:
        while self.stage.assembly.links.running or self.stage.master.proxyserver.connections:
            await asyncio.sleep(0.0005)
        self.provider.hang_up()
        self.control.hang_up()
        while any(self.stage.master.pool._idle.values()) or self.provider.open or self.control.open:
            await asyncio.sleep(0.0005)

    async def _charges(self) -> list[ChargeRecord]:
        assert (await self.stage.standing(self.account))[1] == 0
        token = parse_token(self.account.api_token)
        entries = await self.stage.books.balances.read_outbox(token.shard, after=self.outbox, count=100)
        self.outbox = entries[-1].seq if entries else self.outbox
        records = [ChargeRecord.from_json(entry.detail) for entry in entries if entry.kind in {"charge", "adjust"} and entry.account == token.account]
        assert all(price_record(record, CARD).amount == record.amount for record in records)
        return records

    def _asked(self, provider: CarefulProvider) -> tuple[Received, ...]:
        """Return the requests without what differs between two gateways: the ports, the token, the ids."""
        return tuple(
            Received(
                one.method, self._without_token(one.target.encode()).decode(),
                tuple((name, re.sub(rb"127\.0\.0\.1:\d+", b"127.0.0.1", self._without_token(value))) for name, value in one.fields if name not in OWN_IDS),
                self._without_token(one.body),
            )
            for one in provider.asked
        )  # fmt: skip

    def _without_token(self, data: bytes) -> bytes:
        return data.replace(self.account.api_token.encode(), TOKEN)

    def _with_token(self, data: bytes) -> bytes:
        return data.replace(TOKEN, self.account.api_token.encode())


OWN_IDS = {b"x-level5-peer", b"x-level5-peer-key", b"x-request-id"}


def _wants_body(stream: Any) -> bool:
    state = getattr(stream.__dict__.get("client_state"), "__name__", "") if stream is not None else ""
    return state in {"state_consume_request_body", "state_discard_request_body"} and stream._paused is None


def _comparable(record: ChargeRecord) -> ChargeRecord:
    return replace(record, request_id=RequestId(""), started_at=0)


class TwoPaths:
    """The same books, two gateways."""

    def __init__(self, lane: Path, stock: Path) -> None:
        self.lane, self.stock = lane, stock

    def __repr__(self) -> str:  # hypothesis would print all that is behind it
        return "both"


@asynccontextmanager
async def open_two_paths(books: Books, urls: tuple[str, str], **changes: Any) -> AsyncIterator[TwoPaths]:
    """Run both gateways until the end of the block."""
    async with AsyncExitStack() as stack:
        paths = [await _open_path(stack, books, urls, fast_lane=fast_lane, **changes) for fast_lane in (True, False)]
        while len(paths[0].account.api_token) != len(paths[1].account.api_token):  # the same cuts must fall between the same bytes
            paths[0].account = await books.open_account(BALANCE)
        yield TwoPaths(*paths)


async def _open_path(stack: AsyncExitStack, books: Books, urls: tuple[str, str], *, fast_lane: bool, **changes: Any) -> Path:
    nothing = lambda number, received: Answering(())  # noqa: E731
    provider, control = CarefulProvider(nothing), CarefulProvider(nothing, relayed=True)
    for one in (provider, control):
        await one.start()
        stack.callback(one.stop)
    section = {"base_url": f"http://127.0.0.1:{provider.port}"}
    providers = {name: {**section, "api_key": f"operator-key-{name}"} for name in PROVIDERS}
    stage = await stack.enter_async_context(
        open_stage(books, urls, gateway={"fast_lane": fast_lane}, providers=providers, control={"port": control.port}, **changes)
    )
    account = await books.open_account(BALANCE)
    return Path(stage, account, provider, control)
