"""The page of one transaction: what was used, how its charge was computed, and its place in the journal."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from config.rate_card import RateCardError, parse_rate_card
from control.context import ControlContext
from control.dashboard.visitor import visit
from control.errors import ApiError
from control.web.rendering import render
from ledger.entries import ChargeRecord
from ledger.money import format_usdc
from ledger.receipts import Receipt, read_receipt
from metering.itemised import Itemised, itemise, itemise_report
from metering.pricing import RateCard
from metering.rates import UnknownModel
from metering.reported import ReportedPricer

TITLES: Final = {"DEBIT": "Charge", "DEPOSIT": "Deposit", "CREDIT": "Credit", "REFUND": "Refund", "ADJUSTMENT": "Adjustment"}
NUMBER_DIGITS_MAX: Final = 15
ESTIMATES_MAX: Final = 20  # of one report whose steps are shown
MICROUNIT: Final = 1_000_000  # millionths


@dataclass(frozen=True, slots=True, kw_only=True)
class Computation:
    """How a charge came about. `itemised` is None where the card of that time cannot be read any more, then `fault` says why."""

    itemised: Itemised | None
    fault: str = ""


async def receipt_page(request: Request) -> Response:
    """Show one line of the statement with everything that the books have of it."""
    visitor, text = await visit(request), request.path_params["n"]
    is_number = text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX
    receipt = await read_receipt(visitor.context.pool, visitor.account, int(text)) if is_number else None
    if receipt is None:
        raise ApiError(404, "unknown_transaction", message="This account has no transaction with this number (yet). A charge appears within seconds.")
    return render(
        request,
        "dashboard/receipt.html",
        title=f"Transaction {receipt.id}",
        visitor=visitor,
        receipt=receipt,
        heading=TITLES.get(receipt.type, receipt.type),
        computation=None if receipt.record is None else compute(visitor.context, receipt, receipt.record),
        estimates=estimates(visitor.context, receipt),
        fine=fine_usdc,
        replaced=None if receipt.replaced is None else compute(visitor.context, receipt, receipt.replaced),
    )


def compute(context: ControlContext, receipt: Receipt, record: ChargeRecord) -> Computation:
    """Compute a charge again from its usage and the card it was made with, item by item."""
    card = _card(context, receipt, record.rate_card)
    if isinstance(card, str):
        return Computation(itemised=None, fault=card)
    try:
        return Computation(itemised=itemise(record, card))
    except UnknownModel:
        return Computation(itemised=None, fault="The rate card that was used does not name this model.")


def estimates(context: ControlContext, receipt: Receipt) -> dict[int, Itemised]:
    """Compute the estimated events of a report again, the first of them, by their number in the request."""
    report = receipt.reported
    card = _card(context, receipt, receipt.card_hash) if report is not None else ""
    if report is None or isinstance(card, str):
        return {}
    pricer, shown = ReportedPricer(card, with_markup=report.markup), islice((event for event in report.items if event.estimated), ESTIMATES_MAX)
    return {event.line: itemise_report(event, pricer) for event in shown}


def _card(context: ControlContext, receipt: Receipt, card_hash: str) -> RateCard | str:
    """Return the rate card that was used, or why it cannot be had."""
    if card_hash == context.card.hash:
        return context.card
    if receipt.card_body is None or card_hash != receipt.card_hash:
        return "The rate card that was used is not kept here."
    try:
        return _card_of(receipt.card_body)
    except RateCardError:
        return "The rate card that was used cannot be read by this version."


def fine_usdc(numerator: int) -> str:
    """Write millionths of a microunit as USDC, exactly: with six decimals at least."""
    whole, decimals = format_usdc(numerator // MICROUNIT).split(".")
    finer = f"{numerator % MICROUNIT:06d}".rstrip("0")
    return f"{int(whole):,}.{decimals}{finer}"


@lru_cache(maxsize=4)
def _card_of(body: str) -> RateCard:
    return parse_rate_card(body)
