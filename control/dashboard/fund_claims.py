"""Claiming a payment that named nobody, on pages: the one who sent it signs a text with the sending wallet."""

import re
from typing import Final

from pydantic import Field
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from control.claim_texts import Envelope
from control.dashboard.fund_offer import chain_of
from control.dashboard.funds import show_funds
from control.dashboard.visitor import Visitor, visit, visit_to_change
from control.deposit_claims import admit_claimant, begin_claim, open_claim_of, settle_claim
from control.errors import ApiError, from_ledger
from control.paying_schemas import ClaimProof
from control.reading import read_form
from control.schemas import Question
from control.web.rendering import render
from ledger.base58 import SIGNATURE_BYTES, decode_exactly
from ledger.errors import LedgerError

# People paste what they have: the signature alone, or an explorer's address that ends in it.
SIGNATURE: Final = re.compile(r"[1-9A-HJ-NP-Za-km-z]{64,88}")
TEXT_MAX: Final = 500


class ClaimForm(Question):
    """Which payment is claimed."""

    signature: str = Field(default="", max_length=TEXT_MAX)


class ProofForm(Question):
    """What the wallet signed; whitespace that copying brought along does no harm."""

    wallet_signature: str = Field(default="", max_length=TEXT_MAX)
    envelope: Envelope = Envelope.PLAIN


async def open_claim(request: Request) -> Response:
    """Open a claim and lead to its page; where it is refused, say so on the page that asked."""
    visitor = await visit_to_change(request)
    form = await read_form(request, ClaimForm)
    try:
        token = await admit_claimant(request, visitor.context)
        opened = await begin_claim(visitor.context, token, signature=_signature_in(form.signature))
    except (ApiError, LedgerError) as error:
        return await show_funds(request, visitor, refusal=_in_words(error), refused="This payment cannot be claimed", claimed=form.signature.strip())
    return RedirectResponse(f"{visitor.address}/funds/claims/{opened.claim_id}", 303)


async def claims_door(request: Request) -> Response:
    """Lead whoever asks again for the answer to a form to the form."""
    return RedirectResponse(f"{(await visit(request)).address}/funds#claim", 303)


async def claim_page(request: Request) -> Response:
    """Show an open claim: the text, who is to sign it, and until when."""
    return await _show_claim(request, await visit(request))


async def prove_claim(request: Request) -> Response:
    """Credit the payment to who proved to have sent it, and lead to where it shows."""
    visitor = await visit_to_change(request)
    form = await read_form(request, ProofForm)
    try:
        token = await admit_claimant(request, visitor.context)
        proof = ClaimProof(wallet_signature=_compact(form.wallet_signature), envelope=form.envelope)
        settled = await settle_claim(visitor.context, token, claim_id=request.path_params["claim_id"], proof=proof)
    except (ApiError, LedgerError) as error:
        return await _show_claim(request, visitor, refusal=_in_words(error))
    return RedirectResponse(f"{visitor.address}/funds?payment={settled.signature}#payment", 303)


async def _show_claim(request: Request, visitor: Visitor, *, refusal: ApiError | None = None) -> Response:
    """Return the page of a claim; `refusal` is what came of the last try, and where the claim is gone, why."""
    await visitor.context.chain.look()
    claim = deposit = None
    try:
        claim, deposit = await open_claim_of(visitor.context, visitor.token, claim_id=request.path_params["claim_id"])
    except ApiError as error:
        refusal = refusal or _in_words(error)
    return render(
        request,
        "dashboard/claim.html",
        title="Claim a payment",
        status=200 if refusal is None else refusal.status,
        headers={} if refusal is None else refusal.headers,
        visitor=visitor,
        claim=claim,
        deposit=deposit,
        wallet=deposit.senders[0] if deposit is not None and deposit.senders else "",
        chain=chain_of(visitor.context),
        refusal=refusal,
        envelopes=tuple(Envelope),
    )


def _signature_in(text: str) -> str:
    """Return the transaction's signature in what was pasted.

    Raises:
        ApiError: 400.
    """
    for found in SIGNATURE.findall(text):
        try:
            decode_exactly(found, SIGNATURE_BYTES)
        except ValueError:
            continue
        return str(found)
    message = "This is no signature of a transaction. It is 87 or 88 letters and digits long; wallets and explorers show it with the transaction."
    raise ApiError(400, "invalid_signature", message=message)


def _compact(text: str) -> str:
    """Return a signature without blanks; one that is too long to be one is refused like any other that is none."""
    return "".join(text.split())[:128]


def _in_words(error: ApiError | LedgerError) -> ApiError:
    """Say a refusal for a person on a page, where it speaks of the API otherwise."""
    refusal = error if isinstance(error, ApiError) else from_ledger(error)
    if refusal.code == "unknown_claim":
        return ApiError(404, refusal.code, message="There is no such claim of this account. Open another one on the page “Add funds”.")
    return refusal
