"""A simulated cluster in the test's own event loop, wallets on it, and whatever can happen to a vault in one line each.

`async with open_chain() as chain:` serves real HTTP and WebSocket on free ports. Its clock stands still unless it is
told to tick: `chain.advance()`, `chain.finalize()` and `chain.fork(n)` move it.
"""

import itertools
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solders.account import Account
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, create_account
from solders.transaction import VersionedTransaction

from sandbox.chain.clock import Pace
from sandbox.chain.cluster import Cluster
from sandbox.chain.faucet import Payment, pay
from sandbox.chain.faults import Faults
from sandbox.chain.genesis import VAULT
from sandbox.chain.instructions import create_associated_account, create_mint, distinct, memo, mint_to, readonly, transfer_checked, writable
from sandbox.chain.keys import (
    FAUCET,
    LOOKUP_TABLE_PROGRAM,
    MEMO_V1_PROGRAM,
    MEMO_V2_PROGRAM,
    MINT,
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
    TREASURY,
    associated_account,
    keypair_of,
)
from sandbox.chain.machine import MINT_BYTES, read_holding
from sandbox.chain.records import Record
from sandbox.chain.serving import PROVIDERS, RunningChain, run_chain
from tests.fakes.sbf_event import event_program

USDC = 1_000_000  # microunits
WALLET_USDC = 1_000_000 * USDC
EVENT_PROGRAM = keypair_of("level5 test event program").pubkey()
WALLETS = itertools.count(1)

__all__ = ["EVENT_PROGRAM", "FAUCET", "MEMO_V1_PROGRAM", "MEMO_V2_PROGRAM", "MINT", "TOKEN_2022_PROGRAM", "TREASURY", "USDC", "VAULT", "Chain", "open_chain"]


@dataclass(slots=True)
class Chain:
    """One cluster and the hands of everybody on it. Amounts are microunits."""

    running: RunningChain
    _distinct: Any = None

    def __post_init__(self) -> None:
        self._distinct = itertools.count(1)

    @property
    def cluster(self) -> Cluster:
        return self.running.cluster

    @property
    def mint(self) -> Pubkey:
        return MINT.pubkey()

    @property
    def vault(self) -> Pubkey:
        return VAULT

    @property
    def treasury(self) -> Keypair:
        return TREASURY

    @property
    def genesis(self) -> str:
        return self.cluster.genesis

    @property
    def slot(self) -> int:
        return self.cluster.clock.slot

    def rpc_url(self, provider: int = 1) -> str:
        return self.running.rpc_url(provider)

    def ws_url(self, provider: int = 1) -> str:
        return self.running.ws_url(provider)

    def faults(self, provider: int = 1) -> Faults:
        """Return the switches of a provider: set them as attributes, `clear()` them."""
        return self.running.provider(provider).faults

    def calls(self, provider: int = 1) -> list[str]:
        """Return the methods that a provider was asked, oldest first."""
        return list(self.running.provider(provider).calls)

    # Time

    def advance(self, slots: int = 1) -> int:
        return self.cluster.advance(slots)

    def finalize(self) -> int:
        """Go on until everything that has landed is finalized."""
        return self.cluster.finalize()

    def fork(self, slots: int = 1) -> list[str]:
        """Drop the last slots, which are not final; return the signatures that disappear."""
        return self.cluster.fork(slots)

    # Wallets and state

    def wallet(self, usdc: int = WALLET_USDC) -> Keypair:
        """Return a new wallet with SOL for its fees and a token account of its own."""
        made = keypair_of(f"level5 test wallet {next(WALLETS)}")
        pay(self.cluster, Payment(usdc=usdc, deposit_code=None, wallet=str(made.pubkey())))
        return made

    def token_account(self, owner: Keypair | Pubkey, *, mint: Pubkey | None = None, program: Pubkey = TOKEN_PROGRAM) -> Pubkey:
        """Return the address of an owner's associated token account."""
        return associated_account(owner if isinstance(owner, Pubkey) else owner.pubkey(), mint or self.mint, program=program)

    def amount(self, account: Pubkey | None = None) -> int:
        """Return what a token account, by default the vault, holds now."""
        holding = read_holding(self.cluster.accounts.now(str(account or VAULT)))
        assert holding is not None, "there is no such token account"
        return holding.amount

    # Transactions

    def build(
        self,
        instructions: Sequence[Instruction],
        signers: Sequence[Keypair],
        *,
        legacy: bool = False,
        tables: Sequence[AddressLookupTableAccount] = (),
        blockhash: str | None = None,
        same: bool = False,
    ) -> VersionedTransaction:
        """Return a signed transaction, unlike every other one unless `same`; the first signer pays. Its block hash outlives a fork."""
        steps = list(instructions) if same else [distinct(next(self._distinct)), *instructions]
        value = Hash.from_string(blockhash or self.cluster.clock.latest_hash(self.cluster.clock.covered("finalized"))[1])
        payer = signers[0].pubkey()
        message: Message | MessageV0 = Message.new_with_blockhash(steps, payer, value) if legacy else MessageV0.try_compile(payer, steps, list(tables), value)
        return VersionedTransaction(message, list(signers))

    def send(self, instructions: Sequence[Instruction], signers: Sequence[Keypair], **how: Any) -> Record:
        """Build a transaction and let it land in the current slot; it may fail there, see the record's `fault`."""
        return self.cluster.submit(self.build(instructions, signers, **how))

    def land(self, transaction: VersionedTransaction) -> Record:
        """Let a transaction land, for instance once more after a fork."""
        return self.cluster.submit(transaction)

    # What happens to the vault

    def transfer(self, wallet: Keypair, amount: int, *, to: Pubkey | None = None, references: tuple[Pubkey, ...] = ()) -> Instruction:
        """Return a transfer from the wallet to the vault or another token account, with Solana Pay references."""
        source = self.token_account(wallet)
        return transfer_checked(source, to or VAULT, mint=self.mint, authority=wallet.pubkey(), amount=amount, references=references)

    def plain_transfer(self, wallet: Keypair, amount: int, *, to: Pubkey | None = None) -> Instruction:
        """Return the old `Transfer`, which names neither owner nor mint."""
        accounts = [writable(self.token_account(wallet)), writable(to or VAULT), readonly(wallet.pubkey(), signer=True)]
        return Instruction(TOKEN_PROGRAM, struct.pack("<BQ", 3, amount), accounts)

    def memo(self, text: str | bytes, *, v1: bool = False, signers: tuple[Keypair, ...] = ()) -> Instruction:
        """Return a memo of version 2 or 1; `signers` vouch for it and must sign the transaction."""
        return memo(text, program=MEMO_V1_PROGRAM if v1 else MEMO_V2_PROGRAM, signers=tuple(one.pubkey() for one in signers))

    def pay(self, wallet: Keypair, amount: int, code: str | bytes | None = None, **how: Any) -> Record:
        """Let a wallet pay the vault, with a memo where a code is given."""
        return self.send([self.transfer(wallet, amount), *([] if code is None else [self.memo(code)])], [wallet], **how)

    def fail(self, wallet: Keypair, amount: int, code: str | None = None) -> Record:
        """Let a payment land that fails: the wallet does not have so much left for its second half."""
        too_much = self.amount(self.token_account(wallet)) - amount + 1
        steps = [self.transfer(wallet, amount), self.transfer(wallet, too_much), *([] if code is None else [self.memo(code)])]
        return self.send(steps, [wallet])

    def withdraw(self, amount: int, wallet: Keypair, code: str | None = None) -> Record:
        """Let the treasury send money from the vault to a wallet."""
        step = transfer_checked(VAULT, self.token_account(wallet), mint=self.mint, authority=TREASURY.pubkey(), amount=amount)
        return self.send([step, *([] if code is None else [self.memo(code)])], [FAUCET, TREASURY])

    def self_transfer(self, amount: int, code: str | None = None) -> Record:
        """Let the vault send money to itself."""
        step = transfer_checked(VAULT, VAULT, mint=self.mint, authority=TREASURY.pubkey(), amount=amount)
        return self.send([step, *([] if code is None else [self.memo(code)])], [FAUCET, TREASURY])

    def mint_to(self, amount: int, account: Pubkey | None = None, code: str | None = None) -> Record:
        """Make new test USDC in the vault or in another token account."""
        step = mint_to(self.mint, account or VAULT, authority=FAUCET.pubkey(), amount=amount)
        return self.send([step, *([] if code is None else [self.memo(code)])], [FAUCET])

    def mention(self, wallet: Keypair) -> Record:
        """Name the vault in a transaction that does nothing to it: a Solana Pay reference of some other transfer."""
        return self.send([self.transfer(wallet, 0, to=self.token_account(wallet), references=(VAULT,))], [wallet])

    def batch(self, *instructions: Instruction) -> Instruction:
        """Return several token instructions as one, which leaves neither inner instructions nor logs of its parts."""
        data = b"".join(bytes([len(one.accounts), len(bytes(one.data))]) + bytes(one.data) for one in instructions)
        return Instruction(TOKEN_PROGRAM, b"\xff" + data, [account for one in instructions for account in one.accounts])

    def lookup_table(self, *addresses: Pubkey) -> AddressLookupTableAccount:
        """Return a lookup table with these addresses, ready to be used."""
        key = keypair_of(f"level5 test table {self.genesis} {next(self._distinct)}").pubkey()
        head = struct.pack("<IQQBB", 1, (1 << 64) - 1, self.slot - 1, 0, 0).ljust(56, b"\0")
        self.cluster.set_account(str(key), Account(10**9, head + b"".join(map(bytes, addresses)), LOOKUP_TABLE_PROGRAM))
        return AddressLookupTableAccount(key, list(addresses))

    def event_program(self, address: Pubkey = EVENT_PROGRAM) -> Pubkey:
        """Put the event program at an address; `tests.fakes.sbf_event` makes the calls of it."""
        self.cluster.add_program(str(address), event_program())
        return address

    # What the owner of the vault and the issuer of its token may do

    def delegate(self, to: Pubkey, amount: int) -> Record:
        """Let another key spend from the vault."""
        data = struct.pack("<BQ", 4, amount)
        return self.send([Instruction(TOKEN_PROGRAM, data, [writable(VAULT), readonly(to), readonly(TREASURY.pubkey(), signer=True)])], [FAUCET, TREASURY])

    def revoke(self) -> Record:
        """Take back what `delegate` gave."""
        return self.send([Instruction(TOKEN_PROGRAM, bytes([5]), [writable(VAULT), readonly(TREASURY.pubkey(), signer=True)])], [FAUCET, TREASURY])

    def freeze(self, account: Pubkey | None = None) -> Record:
        """Freeze the vault, or another token account, as the issuer can."""
        return self._issuer(10, account or VAULT)

    def thaw(self, account: Pubkey | None = None) -> Record:
        return self._issuer(11, account or VAULT)

    def _issuer(self, number: int, account: Pubkey) -> Record:
        accounts = [writable(account), readonly(self.mint), readonly(FAUCET.pubkey(), signer=True)]
        return self.send([Instruction(TOKEN_PROGRAM, bytes([number]), accounts)], [FAUCET])

    def set_owner(self, owner: Pubkey) -> Record:
        """Give the vault to another owner."""
        return self._set_authority(2, owner)

    def set_close_authority(self, authority: Pubkey) -> Record:
        return self._set_authority(3, authority)

    def _set_authority(self, kind: int, to: Pubkey) -> Record:
        data = bytes([6, kind, 1]) + bytes(to)
        return self.send([Instruction(TOKEN_PROGRAM, data, [writable(VAULT), readonly(TREASURY.pubkey(), signer=True)])], [FAUCET, TREASURY])

    def close(self, owner: Keypair) -> Record:
        """Close an owner's token account, which must be empty."""
        accounts = [writable(self.token_account(owner)), writable(FAUCET.pubkey()), readonly(owner.pubkey(), signer=True)]
        return self.send([Instruction(TOKEN_PROGRAM, bytes([9]), accounts)], [FAUCET, owner])

    # Other tokens

    def other_mint(self, name: str = "another token") -> Pubkey:
        """Return a mint of SPL Token that is not ours; the faucet may mint it."""
        key = keypair_of(f"level5 test mint {name}")
        steps = create_mint(FAUCET.pubkey(), key.pubkey(), authority=FAUCET.pubkey(), lamports=self.cluster.machine.rent_exempt(MINT_BYTES))
        assert self.send(steps, [FAUCET, key]).fault is None
        return key.pubkey()

    def fee_mint(self, basis_points: int, name: str = "a token with a fee") -> Pubkey:
        """Return a mint of Token-2022 whose transfers cost a share of the amount."""
        key, faucet = keypair_of(f"level5 test mint {name}"), FAUCET.pubkey()
        size = 165 + 1 + 4 + 108  # a token account's length, the kind, the extension's head and body
        params = CreateAccountParams(
            from_pubkey=faucet, to_pubkey=key.pubkey(), lamports=self.cluster.machine.rent_exempt(size), space=size, owner=TOKEN_2022_PROGRAM
        )
        fee = bytes([26, 0, 1]) + bytes(faucet) + b"\1" + bytes(faucet) + struct.pack("<HQ", basis_points, 10**12)
        start = bytes([20, 6]) + bytes(faucet) + b"\0"
        steps = [create_account(params), *(Instruction(TOKEN_2022_PROGRAM, data, [writable(key.pubkey())]) for data in (fee, start))]
        assert self.send(steps, [FAUCET, key]).fault is None
        return key.pubkey()

    def open_account(self, owner: Pubkey, mint: Pubkey, *, program: Pubkey = TOKEN_PROGRAM, amount: int = 0) -> Pubkey:
        """Make an owner's token account of any mint, with something in it; return its address."""
        account = associated_account(owner, mint, program=program)
        steps = [create_associated_account(FAUCET.pubkey(), owner, mint=mint, program=program)]
        steps += [mint_to(mint, account, authority=FAUCET.pubkey(), amount=amount, program=program)] if amount else []
        assert self.send(steps, [FAUCET]).fault is None
        return account


@asynccontextmanager
async def open_chain(folder: Path | None = None, *, ticking: bool = False, pace: Pace | None = None, providers: int = PROVIDERS) -> AsyncIterator[Chain]:
    """Run a cluster on free ports: in `folder`, or one that forgets everything."""
    async with run_chain(folder, ticking=ticking, pace=pace, providers=providers) as running:
        yield Chain(running)
