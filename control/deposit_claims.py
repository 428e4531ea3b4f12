"""Claims: whoever sent a deposit that named nobody proves it with the sending wallet, and has it credited.

Only the one owner whose account paid can claim. Whoever opens a claim first has gained nothing: the proof decides, and the
journal gives one deposit to one account, whoever else tries in the same moment.
"""

import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from control.claim_texts import Challenge, claim_text
from control.context import ControlContext, context_of
from control.errors import ApiError
from control.paying_schemas import ClaimOpened, ClaimProof, ClaimRequest, ClaimSettled
from control.reading import read_body
from ledger.accounts import Account
from ledger.deposit_values import Claim, Deposit
from ledger.errors import AlreadyAssigned, ClaimExpired, ClaimSpent, UnknownClaim, UnknownDeposit
from ledger.tokens import ApiToken, parse_token
from telemetry.logs import get_log

CLAIM_SECONDS: Final = 300
NONCE_BYTES: Final = 16
CLAIM_ID: Final = re.compile(r"clm_[0-9a-f]{32}")
CANNOT_SIGN: Final = "Make one more transfer from the same place with your deposit code as the memo, or give the operator the signature of this one."


async def open_claim(request: Request) -> Response:
    """Give the caller the text to sign for a deposit that named nobody."""
    context = context_of(request)
    token = await admit_claimant(request, context)
    wish = await read_body(request, ClaimRequest)
    return JSONResponse((await begin_claim(context, token, signature=wish.signature)).model_dump())


async def prove_claim(request: Request) -> Response:
    """Credit a deposit to the account whose owner signed for it with the sending wallet."""
    context = context_of(request)
    token = await admit_claimant(request, context)
    proof = await read_body(request, ClaimProof)
    return JSONResponse((await settle_claim(context, token, claim_id=request.path_params["claim_id"], proof=proof)).model_dump())


async def begin_claim(context: ControlContext, token: ApiToken, *, signature: str) -> ClaimOpened:
    """Open a claim of the deposit that the transaction with this signature made.

    Raises:
        ApiError: 404, 409 or 422 where there is nothing to claim, or nobody who could.
    """
    try:
        deposit = await context.deposits.find(signature)
    except UnknownDeposit:
        raise _unknown_deposit() from None
    wallet = only_sender(deposit)
    account = await context.accounts.find(str(token.account))
    challenge = await _challenge(context, deposit, account, wallet=wallet)
    text = claim_text(challenge)
    claim_id = await context.deposits.open_claim(deposit, account, text=text, nonce=challenge.nonce, expires_at=challenge.expires_at)
    get_log().info("claim_opened", claim_id=claim_id, account_id=account.id, signature=deposit.signature, amount=deposit.amount)
    return ClaimOpened(claim_id=claim_id, text=text, wallet=wallet, usdc_amount=deposit.amount, expires_at=challenge.expires_at)


async def settle_claim(context: ControlContext, token: ApiToken, *, claim_id: str, proof: ClaimProof) -> ClaimSettled:
    """Credit the deposit of a claim that `proof` proves.

    Raises:
        ApiError: 404, 409, 410 or 422 where it proves nothing, or comes too late.
        InactiveAccount: the account is closed.
    """
    claim, deposit = await open_claim_of(context, token, claim_id=claim_id)
    _require_proof(claim, proof, wallet=only_sender(deposit))
    account = await context.accounts.find(str(token.account))
    await _take(context, claim, deposit, account)
    status = (await context.deposits.find(deposit.signature)).state
    get_log().info("claim_proven", claim_id=claim.id, account_id=account.id, signature=deposit.signature, amount=deposit.amount, status=status)
    return ClaimSettled(claim_id=claim.id, status="credited" if status == "credited" else "due", signature=deposit.signature, usdc_amount=deposit.amount)


async def open_claim_of(context: ControlContext, token: ApiToken, *, claim_id: str) -> tuple[Claim, Deposit]:
    """Return an open claim of the caller's own, and the deposit that it is of.

    Raises:
        ApiError: 404, 409 or 410 where there is none, or none any more.
    """
    claim = await _find(context, claim_id, token)
    try:
        return claim, await context.deposits.find(claim.signature)
    except UnknownDeposit:
        raise _unknown_deposit() from None


async def _take(context: ControlContext, claim: Claim, deposit: Deposit, account: Account) -> None:
    """Use the claim up and credit the deposit.

    Raises:
        ApiError: 409 or 410 where somebody or the time was faster, 422 where the account cannot hold it.
        InactiveAccount: the account is closed.
    """
    try:
        await context.deposits.take_claim(claim.id)
        await context.deposits.assign(deposit, account, actor="customer", reason=f"claim {claim.id}", source="claim")
    except (ClaimSpent, UnknownClaim):
        raise _spent() from None
    except ClaimExpired:
        raise _expired() from None
    except AlreadyAssigned:
        raise _already_credited() from None
    except ValueError as error:
        raise ApiError(422, "balance_full", message=f"This deposit cannot be credited: {error}. Ask the operator.") from None


async def admit_claimant(request: Request, context: ControlContext) -> ApiToken:
    """Return the caller's token, once it is known to be good and not to have tried too often.

    Raises:
        UnknownToken, InactiveAccount: 401.
        ApiError: 404 where deposits are off, 429 with Retry-After.
    """
    token = parse_token(request.path_params["api_token"])
    await context.balances.authenticate(token)
    if not context.chain.is_on:
        raise ApiError(404, "deposits_off", message=context.chain.closed)
    await context.claim_limit.require(str(token.account), "too_many_claims", what="claims and proofs … for one account")
    return token


def only_sender(deposit: Deposit) -> str:
    """Return the one wallet that can claim a deposit.

    Raises:
        ApiError: 409 where it is somebody's already, 422 where no wallet can prove that it paid alone.
    """
    from control.wallet_proof import can_sign

    if deposit.state != "aside":
        raise _already_credited()
    if len(deposit.senders) != 1:
        who = f"{len(deposit.senders)} wallets sent this deposit together" if deposit.senders else "This deposit has no sender on chain"
        raise ApiError(422, "no_single_sender", message=f"{who}, so none can claim it. {CANNOT_SIGN}", details={"senders": len(deposit.senders)})
    if not can_sign(deposit.senders[0]):
        message = f"The sender {deposit.senders[0]} is the address of a program, such as a smart wallet, and cannot sign. {CANNOT_SIGN}"
        raise ApiError(422, "sender_cannot_sign", message=message, details={"sender": deposit.senders[0]})
    return deposit.senders[0]


async def _challenge(context: ControlContext, deposit: Deposit, account: Account, *, wallet: str) -> Challenge:
    await context.chain.look()
    now = datetime.now(UTC).replace(microsecond=0)
    return Challenge(
        domain=urlsplit(context.public_url).netloc,
        uri=context.public_url,
        wallet=wallet,
        cluster=context.chain.cluster,
        signature=deposit.signature,
        amount=deposit.amount,
        deposit_code=account.deposit_code,
        nonce=secrets.token_hex(NONCE_BYTES),
        issued_at=now,
        expires_at=now + timedelta(seconds=CLAIM_SECONDS),
    )


async def _find(context: ControlContext, claim_id: str, token: ApiToken) -> Claim:
    """Return an open claim of the caller's own.

    Raises:
        ApiError: 404 for one that is unknown or another account's, 409 for one that was used, 410 for one whose time is over.
    """
    claim = await context.deposits.find_claim(claim_id) if CLAIM_ID.fullmatch(claim_id) else None
    if claim is None or claim.account_id != token.account:
        raise ApiError(404, "unknown_claim", message="There is no such claim. Open one with POST /proxy/{api_token}/claims.")
    if claim.spent_at is not None:
        raise _spent()
    if claim.expires_at <= datetime.now(UTC):
        raise _expired()
    return claim


def _require_proof(claim: Claim, proof: ClaimProof, *, wallet: str) -> None:
    """Refuse what is not the wallet's signature of the very text; the claim stays open for a better one.

    Raises:
        ApiError: 422.
    """
    from control.wallet_proof import is_signed_by

    try:
        proven = is_signed_by(wallet, claim.text, envelope=proof.envelope, signature=proof.wallet_signature)
    except ValueError as error:
        raise ApiError(422, "invalid_signature", message=f"wallet_signature {error}.") from None
    if not proven:
        message = (
            f"This is not the signature of {wallet} over the text in the envelope `{proof.envelope}`. Only the owner of the account that paid can "
            f"claim, not a delegate, and an exchange does not sign for its customers. {CANNOT_SIGN}"
        )
        raise ApiError(422, "invalid_signature", message=message, details={"wallet": wallet, "envelope": proof.envelope})


def _unknown_deposit() -> ApiError:
    message = "No final deposit with this signature is known. Check it, and wait until the transaction is finalized, usually half a minute."
    return ApiError(404, "unknown_deposit", message=message)


def _already_credited() -> ApiError:
    return ApiError(409, "already_credited", message="This deposit is credited already; each is credited once. Your transactions show yours.")


def _spent() -> ApiError:
    return ApiError(409, "claim_spent", message="This claim was used already. Look at your balance, or open another claim.")


def _expired() -> ApiError:
    return ApiError(410, "claim_expired", message=f"A claim lives {CLAIM_SECONDS // 60} minutes. Open another one and sign its text.")
