"""What a person sees who wants to pay: a QR code, and a page with all that a transfer needs. Neither holds a secret."""

import io
from functools import lru_cache
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from control.chain_view import SANDBOX_CLUSTER
from control.context import ControlContext, context_of
from control.errors import ApiError, from_ledger
from control.house_page import copyable, html_page, notice
from control.markup import Markup, tag
from control.paying import cluster_words, label_of, pay_link, require_payable
from control.paying_schemas import PayQuery
from control.reading import read_query
from control.solana_pay import read_amount, write_amount
from ledger.errors import LedgerError

SVG: Final = "image/svg+xml"
QR_SECONDS: Final = 300  # as long as a changed or closed vault may go on being shown by a browser's memory
ICON_SECONDS: Final = 86_400
QR_CACHED_MAX: Final = 256
# Images that pages of others may show: a wallet its icon, an agent its user's QR code.
SHOWN_ELSEWHERE: Final = {"Cross-Origin-Resource-Policy": "cross-origin"}
ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect width="64" height="64" rx="14" fill="#123"/>'
    '<path d="M14 14v36h14M34 30h14l-2-16H32M33 47c4 5 16 4 16-6s-10-13-16-8" fill="none" stroke="#5eb" stroke-width="6"/></svg>'
)


async def qr_code(request: Request) -> Response:
    """Serve the Solana Pay link of an account as an SVG image."""
    context = context_of(request)
    account, pay_to = await require_payable(context, request.path_params["deposit_code"])
    drawn = draw(pay_link(context, pay_to, account.deposit_code, amount=_amount(request)))
    return Response(drawn, media_type=SVG, headers={"Cache-Control": f"public, max-age={QR_SECONDS}", **SHOWN_ELSEWHERE})


async def pay_page(request: Request) -> Response:
    """Show a person how to pay into an account."""
    context = context_of(request)
    try:
        account, pay_to = await require_payable(context, request.path_params["deposit_code"])
        amount = _amount(request)
    except (ApiError, LedgerError) as error:
        return _refusal(context, error if isinstance(error, ApiError) else from_ledger(error))
    pay_url = pay_link(context, pay_to, account.deposit_code, amount=amount)
    asked = "USDC" if amount is None else f"{write_amount(amount)} USDC"
    body = (
        *((notice("Test money only: this is a simulated Solana cluster, and a real wallet cannot pay here."),) if pay_to.cluster == SANDBOX_CLUSTER else ()),
        tag("h1", f"Pay {asked} to {label_of(context)}"),
        tag("p", f"On {cluster_words(pay_to)}. Scan the code with a wallet, or ", tag("a", "open it in a wallet", href=pay_url), "."),
        tag("div", Markup(draw(pay_url)), class_="qr"),
        tag("h2", "By hand"),
        tag("p", "Any transfer of USDC will do that carries the memo. A click selects a line whole."),
        *_lines("Address", pay_to.address),
        *_lines("Memo: names the account, and must not be left out", account.deposit_code),
        *_lines("Token: the mint of USDC", pay_to.mint),
        *(_lines("Amount in USDC", write_amount(amount)) if amount is not None else ()),
        tag(
            "p",
            "It can be spent when Solana has finalized it, usually within half a minute. An exchange often cannot add a memo: pay from a wallet of your own.",
        ),
    )
    return html_page(context, "Pay", *body)


async def icon(_request: Request) -> Response:
    """Serve the image that wallets show beside our name."""
    return Response(ICON, media_type=SVG, headers={"Cache-Control": f"public, max-age={ICON_SECONDS}", **SHOWN_ELSEWHERE})


@lru_cache(maxsize=QR_CACHED_MAX)
def draw(text: str) -> str:
    """Return a QR code as SVG, dark on light whatever surrounds it, with the quiet border that scanners need."""
    import segno

    written = io.BytesIO()
    segno.make(text, error="m", micro=False).save(written, kind="svg", border=4, scale=4, light="#fff", dark="#000", xmldecl=False, omitsize=True, nl=False)
    return written.getvalue().decode()


def _amount(request: Request) -> int | None:
    text = read_query(request, PayQuery).amount
    return None if text is None else read_amount(text)


def _lines(name: str, value: str) -> tuple[Markup, Markup]:
    return tag("h3", name), copyable(value)


def _refusal(context: ControlContext, error: ApiError) -> Response:
    return html_page(context, "Level5", tag("h1", f"{error.status}"), tag("p", error.message), status=error.status, headers=error.headers)
