"""How money gets onto an account, for the descriptions that agents read: what they say is what is open now."""

from typing import Final

from control.chain_view import SANDBOX_CLUSTER, PayTo
from control.context import ControlContext
from control.paying import cluster_words

BY_HAND: Final = (
    "{closed} The user pays the operator as agreed and names the `deposit_code`; "
    "the operator credits it with\n`level5 credit DEPOSIT_CODE USDC`. Until then calls are answered 402."
)
ON_CHAIN: Final = """Accounts are funded with USDC on {cluster}. `instructions`, in the answer to registering and in `/balance`, holds all that is
needed; `CODE` is the account's `deposit_code`, which is public.

- A person opens `pay_url` ({url}/pay/CODE), which shows a QR code, or `solana_pay_url` in a wallet. `?amount=5` asks for 5 USDC.
- A wallet of your own sends USDC (mint `{mint}`) to `{address}` with a memo that is `CODE` and nothing else, in the same transaction.
- `POST {url}/v1/pay/CODE?amount=5` with `{{"account": "PUBLIC_KEY"}}` gives the whole transaction in base64, ready to be signed and sent.

Never pay without the user's consent to this very amount, and never without the memo: it names the account. `pending_deposits` in `/balance` shows a
payment after a second or two; it can be spent when Solana has finalized it, usually within half a minute. Until then calls are answered 402.

A payment that named nobody is set aside, not lost. Its sender claims it: `POST {url}/proxy/API_TOKEN/claims` with
`{{"signature": "TRANSACTION"}}` gives a `text`; sign these bytes with the wallet that paid, and post
`{{"wallet_signature": "BASE58"}}` to `{url}/proxy/API_TOKEN/claims/CLAIM_ID` within five minutes."""
FAUCET: Final = """

This is the sandbox: `POST {url}/sandbox/faucet` with `{{"deposit_code": "CODE", "usdc": 5000000}}` pays 5 test USDC into an account, and
with `{{"wallet": "PUBLIC_KEY", "usdc": 5000000}}` into a wallet of yours. No real wallet can pay here."""


def funding_text(context: ControlContext) -> str:
    """Return the section on funding of the skill and the overview."""
    pay_to = context.chain.pay_to
    if pay_to is None:
        return BY_HAND.format(closed=context.chain.closed)
    text = ON_CHAIN.format(cluster=cluster_words(pay_to), url=context.public_url, mint=pay_to.mint, address=pay_to.address)
    return text + (FAUCET.format(url=context.public_url) if pay_to.cluster == SANDBOX_CLUSTER else "")


def funding_fields(context: ControlContext) -> dict[str, object]:
    """Return the same as fields of the service descriptor."""
    pay_to = context.chain.pay_to
    if pay_to is None:
        words = f"{context.chain.closed} The operator credits a deposit_code: level5 credit DEPOSIT_CODE USDC"
        return {"deposits": False, "contract_address": None, "how_to_fund": words}
    return _on_chain(context, pay_to)


def _on_chain(context: ControlContext, pay_to: PayTo) -> dict[str, object]:
    url = context.public_url
    return {
        "deposits": True,
        "contract_address": context.settings.chain.event_program or pay_to.address,
        "deposit_address": pay_to.address,
        "usdc_mint": pay_to.mint,
        "vault": pay_to.vault.address if pay_to.vault else None,
        "network": "solana",
        "cluster": pay_to.cluster,
        "memo": "the account's deposit_code",
        "pay_page": f"{url}/pay/{{deposit_code}}",
        "qr_code": f"{url}/pay/{{deposit_code}}.svg",
        "transaction_request": f"{url}/v1/pay/{{deposit_code}}",
        "claims": f"{url}/proxy/{{api_token}}/claims",
        "how_to_fund": "Send USDC to deposit_address with the deposit_code as the memo; it can be spent when Solana has finalized it.",
    }
