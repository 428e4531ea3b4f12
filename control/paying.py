"""How money gets onto an account: the addresses, links and words that are given out, the same everywhere."""

import re
from typing import Final

from control.chain_view import SANDBOX_CLUSTER, PayTo
from control.context import ControlContext
from control.errors import ApiError
from control.schemas import FundingInstructions
from control.solana_pay import reference_of, transaction_link, transfer_link, write_amount
from ledger.accounts import Account
from ledger.errors import UnknownAccount

DEPOSIT_CODE: Final = re.compile(r"[0-9A-F]{16}")
CLOSED: Final = "closed"


def funding_instructions(context: ControlContext, api_token: str, deposit_code: str) -> FundingInstructions:
    """Return how to pay in."""
    pay_to, dashboard = context.chain.pay_to, f"{context.public_url}/dashboard/{api_token}"
    words = how_to_fund(context, deposit_code)
    if pay_to is None:
        return FundingInstructions(
            contract_address=None, dashboard_url=dashboard, deposit_address=None, usdc_mint=None, memo=deposit_code, solana_pay_url=None, how_to_fund=words
        )
    return FundingInstructions(
        contract_address=context.settings.chain.event_program or pay_to.address,
        dashboard_url=dashboard,
        deposit_address=pay_to.address,
        usdc_mint=pay_to.mint,
        memo=deposit_code,
        solana_pay_url=pay_link(context, pay_to, deposit_code),
        how_to_fund=words,
        cluster=pay_to.cluster,
        vault=pay_to.vault.address if pay_to.vault else None,
        reference=reference_of(deposit_code),
        qr_url=f"{context.public_url}/pay/{deposit_code}.svg",
        pay_url=f"{context.public_url}/pay/{deposit_code}",
        transaction_request_url=transaction_link(f"{context.public_url}/v1/pay/{deposit_code}"),
    )


def how_to_fund(context: ControlContext, deposit_code: str) -> str:
    """Say in words how money gets onto an account."""
    pay_to = context.chain.pay_to
    if pay_to is None:
        return (
            f"{context.chain.closed} Pay the operator as agreed and give the deposit code {deposit_code}; "
            f"the operator credits it with: level5 credit {deposit_code} <usdc> --reason <why>"
        )
    return (
        f"Send USDC on {cluster_words(pay_to)} to {pay_to.address} with the memo {deposit_code}: open solana_pay_url in a wallet, scan the QR code at "
        f"{context.public_url}/pay/{deposit_code}, or make any transfer that carries this memo. The memo names the account; a payment without it is "
        f"set aside until its sender claims it. It can be spent when Solana has finalized it, usually within half a minute."
    )


def cluster_words(pay_to: PayTo) -> str:
    """Name the cluster so that nobody pays on another one."""
    if pay_to.cluster == SANDBOX_CLUSTER:
        return "the sandbox's simulated Solana cluster (test money)"
    return f"Solana ({pay_to.cluster})"


def pay_link(context: ControlContext, pay_to: PayTo, deposit_code: str, *, amount: int | None = None) -> str:
    """Return the Solana Pay link of an account."""
    if not pay_to.by_owner:  # only a transaction of our making pays a vault that wallets do not find
        asked = "" if amount is None else f"?amount={write_amount(amount)}"
        return transaction_link(f"{context.public_url}/v1/pay/{deposit_code}{asked}")
    return transfer_link(
        owner=pay_to.owner, mint=pay_to.mint, deposit_code=deposit_code, label=label_of(context), message=f"Deposit for {deposit_code}", amount=amount
    )


def label_of(context: ControlContext) -> str:
    """Return the name under which a wallet shows us."""
    return "Level5 sandbox" if context.settings.mode == "sandbox" else "Level5"


async def require_payable(context: ControlContext, text: str) -> tuple[Account, PayTo]:
    """Return the account with this deposit code and where it is paid.

    Raises:
        ApiError: 404 for what is no open account's code, which may also be because deposits are off; 503 where they are closed for now.
        JournalUnavailable: Postgres did not answer.
    """
    code = text.upper()
    if not context.chain.is_on or not DEPOSIT_CODE.fullmatch(code):
        raise _nothing_to_pay()
    try:
        account = await context.accounts.find(code)
    except UnknownAccount:
        raise _nothing_to_pay() from None
    if account.status == CLOSED:
        raise _nothing_to_pay()
    await context.chain.look()
    pay_to = context.chain.pay_to
    if pay_to is None:
        raise ApiError(503, "deposits_closed", message=context.chain.closed, headers={"Retry-After": "60"})
    return account, pay_to


def _nothing_to_pay() -> ApiError:
    return ApiError(404, "not_found", message="There is nothing to pay at this address. Check the deposit code.")
