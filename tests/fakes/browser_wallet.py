"""A wallet in the browser: the Wallet Standard in the page, keys and the simulated chain in the test.

wallet = BrowserWallet(service, "Test wallet")
page = visits.open(path, prepare=wallet.script)
wallet.attach(page)
"""

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from playwright.sync_api import Page
from solders.keypair import Keypair
from solders.transaction import Transaction

from tests.fakes.appliance import CLIENT, Appliance
from tests.fakes.wallet import Wallet

SCRIPT = (Path(__file__).parent / "browser_wallet.js").read_text(encoding="utf-8")
CHAIN = "solana:sandbox"
FEATURES = ("standard:connect", "standard:disconnect", "standard:events", "solana:signAndSendTransaction", "solana:signMessage")
ICON = "data:image/svg+xml;base64," + base64.b64encode(
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect width="24" height="24" rx="6" fill="#7049c6"/></svg>'
).decode()  # fmt: skip
CONFIRMED_SECONDS_MAX = 30.0
REFUSED: dict[str, Any] = {"code": 4001, "message": "User rejected the request."}


@dataclass
class BrowserWallet:
    """One wallet and its owner, who agrees to everything unless `answers` names an error for what is asked: connect, pay or sign."""

    service: Appliance
    name: str = "Test wallet"
    keys: Sequence[Keypair] = ()
    chains: Sequence[str] = (CHAIN,)
    account_chains: Sequence[str] = (CHAIN,)
    features: Sequence[str] = FEATURES
    account_features: Sequence[str] = FEATURES
    icon: str = ICON
    labels: Sequence[str] = ()
    late: bool = False
    wrapping: bytes = b""  # what it puts before a text that it signs
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    is_allowed: bool = False

    def __post_init__(self) -> None:
        self.keys = self.keys or (Keypair(),)

    @property
    def script(self) -> str:
        """What the browser runs before a page's own scripts."""
        addresses = [
            {"address": str(key.pubkey()), "publicKey": list(bytes(key.pubkey())), "label": self.labels[place] if place < len(self.labels) else None}
            for place, key in enumerate(self.keys)
        ]
        terms = {
            "name": self.name, "icon": self.icon, "chains": list(self.chains), "features": list(self.features), "addresses": addresses,
            "accountChains": list(self.account_chains), "accountFeatures": list(self.account_features), "late": self.late,
        }  # fmt: skip
        return f"({SCRIPT})({json.dumps(terms)});"

    def address(self, place: int = 0) -> str:
        return str(self.keys[place].pubkey())

    def plain(self, place: int = 0) -> Wallet:
        """The same key outside the browser."""
        return Wallet(self.service.rpc_url, self.keys[place])

    def fund(self, usdc: int, place: int = 0) -> None:
        """Have the faucet give test USDC, and SOL for fees, and wait until the chain shows them."""
        given = CLIENT.post(f"{self.service.url}/sandbox/faucet", json={"wallet": self.address(place), "usdc": usdc})
        assert given.status_code == 200, given.text
        deadline = time.monotonic() + CONFIRMED_SECONDS_MAX
        while self._status(given.json()["signature"]) not in {"confirmed", "finalized"}:
            assert time.monotonic() < deadline, "the faucet's transfer was not confirmed in time"
            time.sleep(0.1)

    def _status(self, signature: str) -> str | None:
        question = {"jsonrpc": "2.0", "id": 1, "method": "getSignatureStatuses", "params": [[signature]]}
        [row] = CLIENT.post(self.service.rpc_url, json=question).json()["result"]["value"]
        return None if row is None else str(row["confirmationStatus"])

    def pay_without_memo(self, instructions: dict[str, Any], usdc: int, place: int = 0) -> str:
        """Pay past the page, and name nobody."""
        return apart(self.plain(place).pay(instructions, usdc, with_memo=False))

    def answer(self, what: str, details: dict[str, Any]) -> dict[str, Any]:
        """Do what the page asks the wallet for, unless its owner is of another mind."""
        self.asked.append((what, details))
        if error := self.answers.get(what):
            return {"error": {"code": error.get("code"), "message": error["message"]}}
        match what:
            case "connect":
                count = 0 if details["silent"] and not self.is_allowed else len(self.keys)
                self.is_allowed = self.is_allowed or not details["silent"]
                return {"count": count}
            case "pay":
                return self._pay(self._key(details["address"]), bytes(details["transaction"]), chain=details["chain"])
            case "sign":
                signed = self.wrapping + bytes(details["message"])
                return {"signedMessage": list(signed), "signature": list(bytes(self._key(details["address"]).sign_message(signed)))}
        raise AssertionError(what)

    def _pay(self, key: Keypair, transaction: bytes, *, chain: str) -> dict[str, Any]:
        if chain != CHAIN:
            return {"error": {"code": None, "message": f"wrong network {chain}"}}
        unsigned = Transaction.from_bytes(transaction)
        signed = Transaction([key], unsigned.message, unsigned.message.recent_blockhash)
        terms = [base64.b64encode(bytes(signed)).decode(), {"encoding": "base64", "preflightCommitment": "confirmed"}]
        answer = CLIENT.post(self.service.rpc_url, json={"jsonrpc": "2.0", "id": 1, "method": "sendTransaction", "params": terms}).json()
        if "error" in answer:
            return {"error": {"code": None, "message": answer["error"]["message"]}}
        return {"signature": list(bytes(signed.signatures[0]))}

    def _key(self, address: str) -> Keypair:
        return next(key for key in self.keys if str(key.pubkey()) == address)


def attach(page: Page, *wallets: BrowserWallet) -> None:
    """Let the wallets of a page, and of all pages that it leads to, ask their owners."""
    by_name = {wallet.name: wallet for wallet in wallets}
    if by_name:
        page.context.expose_binding("askTestWallet", lambda _source, name, what, details: by_name[name].answer(what, details))


def key_of(text: str) -> Keypair:
    """Return a key that is the same each time."""
    return Keypair.from_seed(sha256(text.encode()).digest())


def apart[T](work: Any) -> T:
    """Run something asynchronous while Playwright has the loop of this thread."""
    with ThreadPoolExecutor(1) as pool:
        found: T = pool.submit(asyncio.run, work).result()
    return found
