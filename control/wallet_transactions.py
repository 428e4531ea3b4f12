"""The transaction that a wallet asked for, after a look at the accounts it moves money between. Loaded when the first one asks."""

import base64
from typing import Any, Final

from control.errors import ApiError
from control.rpc_providers import NoProvider, RpcProviders
from control.solana_pay import write_amount
from control.transfer_transaction import TokenAccount, associated_account, read_token_account, transfer_transaction
from control.wallet_proof import can_sign
from ledger.deposit_values import Vault

COMMITMENT: Final = "confirmed"  # a processed blockhash may belong to a fork that is dropped


async def build_transaction(rpc: RpcProviders, vault: Vault, *, payer: str, deposit_code: str, amount: int) -> str:
    """Return the transaction, after a look at the accounts that it moves money between.

    Raises:
        ApiError: 422 where the payer cannot pay this, 503 where the chain cannot be asked or the vault cannot be paid.
    """
    if not can_sign(payer):
        raise ApiError(422, "payer_cannot_sign", message="This address belongs to a program and cannot sign. Pay by a transfer from it with the memo instead.")
    try:
        source = associated_account(payer, vault)
        found = await rpc.ask("getMultipleAccounts", [source, vault.address], {"encoding": "base64", "commitment": COMMITMENT})
        latest = await rpc.ask("getLatestBlockhash", {"commitment": COMMITMENT})
        payers, vaults = found["value"]
        blockhash = latest["value"]["blockhash"]
        _require_money(payers, vault, payer=payer, amount=amount)
        _require_vault(vaults, vault)
        return transfer_transaction(payer, vault, deposit_code=deposit_code, amount=amount, blockhash=blockhash)
    except (NoProvider, LookupError, TypeError, ValueError) as error:
        message = "The chain cannot be asked at the moment. Try again shortly, or pay by a transfer with the memo."
        raise ApiError(503, "chain_unavailable", message=message, headers={"Retry-After": "5"}) from error


def _require_money(shown: Any, vault: Vault, *, payer: str, amount: int) -> None:
    if shown is None or shown["owner"] != vault.token_program:
        raise ApiError(422, "payer_has_no_account", message=f"{payer} has no account of this USDC (mint {vault.mint}). Send some USDC to that wallet first.")
    account = _token_account(shown)
    if account.amount < amount or not account.usable:
        message = f"The USDC account of {payer} holds {write_amount(account.amount)} USDC" + ("" if account.usable else " and is frozen") + "."
        raise ApiError(422, "payer_lacks_funds", message=message, details={"required": amount, "available": account.amount})


def _require_vault(shown: Any, vault: Vault) -> None:
    account = None if shown is None or shown["owner"] != vault.token_program else _token_account(shown)
    if account is None or not account.usable or (account.mint, account.owner) != (vault.mint, vault.owner):
        raise ApiError(503, "deposits_closed", message="The vault cannot be paid into now. Pay nothing and ask the operator.", headers={"Retry-After": "60"})


def _token_account(shown: Any) -> TokenAccount:
    return read_token_account(base64.b64decode(shown["data"][0], validate=True))
