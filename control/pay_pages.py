"""What a person sees who wants to pay: a QR code, and a page with all that a transfer needs. Neither holds a secret."""

import io
from functools import lru_cache
from typing import Final

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from control.chain_view import SANDBOX_CLUSTER
from control.context import context_of
from control.paying import cluster_words, label_of, pay_link, require_payable
from control.paying_schemas import PayQuery
from control.reading import read_query
from control.solana_pay import read_amount, write_amount
from control.web.rendering import render

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
    account, pay_to = await require_payable(context, request.path_params["deposit_code"])
    amount = _amount(request)
    pay_url = pay_link(context, pay_to, account.deposit_code, amount=amount)
    return render(
        request,
        "pay.html",
        title="Pay",
        test_money=pay_to.cluster == SANDBOX_CLUSTER,
        asked="USDC" if amount is None else f"{write_amount(amount)} USDC",
        label=label_of(context),
        pay_url=pay_url,
        drawing=Markup(draw(pay_url)),  # noqa: S704  # of our own making
        cluster=cluster_words(pay_to),
        address=pay_to.address,
        code=account.deposit_code,
        mint=pay_to.mint,
        amount=None if amount is None else write_amount(amount),
    )


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
