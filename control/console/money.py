"""Money: what the house owns and owes, whether the books balance, and deposits that wait for somebody to say whose they are."""

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from control.console.accounts import Reason
from control.console.door import Form, Operator, Words, enter, note, receive, see_other, shown
from control.errors import ApiError
from control.health import Health
from control.reading import read_query
from ledger.asides import SENTENCES
from ledger.deposit_values import ChainStatus, VaultFigures
from ledger.errors import AlreadyAssigned, InactiveAccount, UnknownAccount, UnknownDeposit
from ledger.figure_values import Counts, HouseMoney, total_of
from ledger.findings import Report
from ledger.house_figures import house_money, house_usage
from ledger.organisations import find_organisation
from ledger.periods import period_back
from ledger.reconcile import check_sums
from telemetry.gauges import read_gauges

ROWS: Final = 25
DAYS: Final = 30
GAUGES: Final = ("level5_reconcile_difference_microunits", "level5_reconcile_findings", "level5_spool_depth", "level5_outbox_depth")
DONE: Final = {
    "assigned": "The deposit was credited.",
    "again": "It was credited to this account before; nothing was added.",
    "waits": "It will be credited when crediting is resumed.",
    "resumed": "Crediting goes on.",
}
SOURCES: Final = {
    "memo": "by its memo", "inner_memo": "by the memo within a smart wallet's call", "reference": "by its Solana Pay reference",
    "event": "by the deposit program's event", "operator": "by an operator", "claim": "claimed by its sender",
}  # fmt: skip
_SIGNATURE: Final = re.compile(r"[1-9A-HJ-NP-Za-km-z]{43,90}")


class DepositsQuery(BaseModel):
    """Which deposits are listed, and what was done a moment ago."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: Literal["aside", "due", "credited", "all"] = "aside"
    before: int | None = Field(default=None, gt=0, lt=2**63)
    done: str = Field(default="", max_length=40)


class AssignForm(Form):
    """Whose a deposit is."""

    account: Annotated[Words, Field(min_length=1, max_length=200)]
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Payable:
    """What is owed to a provider at list price, since the books began and in the last days, and what was earned on top in those."""

    provider: str
    owed: int
    lately: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """All that the page of money shows above the deposits."""

    house: HouseMoney
    payables: tuple[Payable, ...]
    markup_lately: int
    vault: VaultFigures
    chain: ChainStatus | None
    stopped: str | None
    report: Report
    health: Health
    gauges: dict[str, int]

    @property
    def cover(self) -> int:
        """What the vault holds beyond what customers own and nobody was named for."""
        return self.house.vault - self.house.customers - self.house.unattributed

    @property
    def owned(self) -> int:
        """The sum of what the house owns."""
        return self.house.vault + self.house.grants + self.house.drawings + self.house.other

    @property
    def owed(self) -> int:
        """The sum of what the house owes, its own earnings among it: equal to what it owns, or the books do not balance."""
        house = self.house
        return house.customers + house.unattributed + sum(amount for _, amount in house.providers) + house.markup_earned + house.external_usage


async def read_position(operator: Operator) -> Position:
    """Return how the house stands.

    Raises:
        JournalUnavailable: Postgres did not answer.
    """
    context, report = operator.context, Report()
    house = await house_money(context.pool)
    usage = await house_usage(context.pool, period_back(timedelta(days=DAYS), datetime.now(UTC)))
    lately: dict[str, list[Counts]] = {}
    for one in usage:
        if not one.reported:
            lately.setdefault(one.provider, []).append(one.counts)
    owed = dict(house.providers)
    payables = [Payable(provider=name, owed=owed.get(name, 0), lately=total_of(lately.get(name, ()))) for name in sorted({*owed, *lately})]
    await check_sums(context.pool, report=report)
    return Position(
        house=house,
        payables=tuple(payables),
        markup_lately=sum(payable.lately.markup for payable in payables),
        vault=await context.deposits.figures(),
        chain=await context.deposits.status(),
        stopped=await context.deposits.stopped(),
        report=report,
        health=await context.monitor.look(),
        gauges={name.removeprefix("level5_"): int(value) for name, value in (await asyncio.to_thread(read_gauges, GAUGES)).items()},
    )


async def show_money(request: Request) -> Response:
    """Show how the house stands, and deposits."""
    operator = await enter(request)
    query = read_query(request, DepositsQuery)
    rows = await operator.context.deposits.list(state=None if query.state == "all" else query.state, before=query.before, limit=ROWS + 1)
    return shown(
        request, operator, "money.html", title="Money", here="/admin/money", position=await read_position(operator), query=query, deposits=rows[:ROWS],
        older=rows[ROWS - 1].id if len(rows) > ROWS else None, done=DONE.get(query.done, ""), sentences=SENTENCES, sources=SOURCES, days=DAYS,
        is_on=operator.context.chain.is_on,
    )  # fmt: skip


async def assign(request: Request) -> Response:
    """Credit a deposit that named nobody to an account, once."""
    operator, form = await receive(request, AssignForm)
    context, signature = operator.context, request.path_params["signature"]
    if not _SIGNATURE.fullmatch(signature):
        raise ApiError(404, "unknown_deposit", message="There is no such deposit.")
    try:
        deposit = await context.deposits.find(signature)
        account = await find_organisation(context.pool, context.accounts, form.account)
    except UnknownDeposit:
        raise ApiError(404, "unknown_deposit", message="There is no such deposit.") from None
    except UnknownAccount as error:
        # A token that is mistyped must not come back in a page.
        message = "No account has this api_token." if form.account.startswith("l5_") else f"{str(error)[:1].upper()}{str(error)[1:]}."
        raise ApiError(404, "unknown_account", message=message) from None
    await note(request, operator, "deposit_assign", account=account.public_id, signature=signature, amount=deposit.amount, reason=form.reason)
    try:
        made = await context.deposits.assign(deposit, account, actor=operator.actor, reason=form.reason)
    except AlreadyAssigned:
        raise ApiError(409, "already_assigned", message="This deposit was credited to another account meanwhile. Nothing was changed.") from None
    except InactiveAccount:
        raise ApiError(409, "closed_account", message="This account is closed. Nothing was credited.") from None
    except ValueError as error:
        raise ApiError(409, "balance_full", message=f"{error}.") from None
    after = await context.deposits.find(signature)
    done = "waits" if after.state == "due" else "again" if made.balance_after is None else "assigned"
    return see_other(f"/admin/money?done={done}#deposits")


async def resume(request: Request) -> Response:
    """Credit again where crediting was stopped."""
    operator, _ = await receive(request, Form)
    await note(request, operator, "crediting_resume")
    await operator.context.deposits.resume_crediting(actor=operator.actor)
    return see_other("/admin/money?done=resumed")
