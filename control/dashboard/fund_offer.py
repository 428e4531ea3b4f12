"""What a payer needs at hand: where to pay, what names the account, how much, and on which network."""

from dataclasses import dataclass
from typing import Final

from control.chain_view import SANDBOX_CLUSTER
from control.context import ControlContext
from control.paying import CLOSED, cluster_words, label_of, pay_link
from control.solana_pay import read_amount, write_amount
from ledger.accounts import Account

AMOUNT_FIRST: Final = "10"  # USDC that the page asks for until another amount is chosen
AMOUNTS_OFFERED: Final = ("5", "10", "25", "100")
NAMED_CLUSTERS: Final = ("mainnet", "devnet", SANDBOX_CLUSTER)
GENESIS_CHARACTERS: Final = 32  # of the hash by which CAIP-2 names any other cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """How an account is paid into now. `amount` is as the payer wrote it, None where the wallet is to ask; `chain` as wallets name it."""

    payee: str
    address: str
    mint: str
    deposit_code: str
    cluster: str
    network: str
    chain: str
    link: str
    image: str
    amount: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The amount that a payer chose: what was typed, and what is wrong with it."""

    text: str
    amount: int | None
    fault: str = ""


def read_asked(text: str | None) -> Asked:
    """Read the amount of an address: none is our first one, an empty one leaves it to the wallet."""
    typed = AMOUNT_FIRST if text is None else text.strip()
    if not typed:
        return Asked(text="", amount=None)
    try:
        return Asked(text=typed, amount=read_amount(typed))
    except ValueError as error:
        return Asked(text=typed, amount=None, fault=f"The amount {error}.")


def find_offer(context: ControlContext, account: Account, *, amount: int | None) -> Offer | None:
    """Return how to pay in, None where nobody is to: `closed_words` says why."""
    pay_to = context.chain.pay_to
    if pay_to is None or account.status == CLOSED:
        return None
    code = account.deposit_code
    return Offer(
        payee=label_of(context),
        address=pay_to.address,
        mint=pay_to.mint,
        deposit_code=code,
        cluster=pay_to.cluster,
        network=cluster_words(pay_to),
        chain=chain_of(context),
        link=pay_link(context, pay_to, code, amount=amount),
        image=f"/pay/{code}.svg" + ("" if amount is None else f"?amount={write_amount(amount)}"),
        amount=None if amount is None else write_amount(amount),
    )


def closed_words(context: ControlContext, account: Account) -> str:
    """Say why nobody is to pay into an account now; empty where paying is right."""
    if account.status == CLOSED:
        return "This account is closed. Do not pay in: what came would be set aside."
    return context.chain.closed


def chain_of(context: ControlContext) -> str:
    """Return the network as wallets of the Wallet Standard name it. The simulated one has a name of its own, so that no real wallet answers to it."""
    cluster = context.chain.cluster
    return f"solana:{cluster if cluster in NAMED_CLUSTERS else cluster[:GENESIS_CHARACTERS]}"


def explorer_link(cluster: str, signature: str) -> str | None:
    """Return where a transaction can be looked at, None for clusters that no explorer shows."""
    if cluster not in ("mainnet", "devnet"):
        return None
    return f"https://explorer.solana.com/tx/{signature}" + ("?cluster=devnet" if cluster == "devnet" else "")
