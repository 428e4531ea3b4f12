"""Subscriptions: what a client asked to be told of, and what it is told when a slot reaches its commitment."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sandbox.chain.account_json import account_json, passes
from sandbox.chain.arguments import Arguments, Config, invalid, read_address, read_signature
from sandbox.chain.clock import Commitment
from sandbox.chain.provider import Provider, in_context
from sandbox.chain.records import Record

KINDS: Final = ("account", "logs", "program", "root", "signature", "slot")


@dataclass(slots=True, kw_only=True)
class Subscription:
    """One subscription. `told` is the newest slot whose transactions were told; `ended`: there is nothing more to tell."""

    number: int
    kind: str
    subject: str  # address or signature; "all" for all logs
    config: Config
    commitment: Commitment
    told: int = 0
    ended: bool = False
    root: int = field(default=0)


def read_subscription(provider: Provider, method: str, *, given: Arguments, number: int) -> Subscription | None:
    """Return the subscription that a request asks for; None where the method is none.

    Raises:
        RpcError: its parameters are wrong.
    """
    kind = method.removesuffix("Subscribe")
    if kind == method or kind not in KINDS:
        return None
    config = given.config(1) if kind not in ("slot", "root") else Config({})
    made = Subscription(number=number, kind=kind, subject=_subject(kind, given), config=config, commitment=config.commitment())
    made.told = provider.slot(made.commitment)
    made.root = provider.slot("finalized")
    return made


def _subject(kind: str, given: Arguments) -> str:
    if kind in ("account", "program"):
        return given.address(0)
    if kind == "signature":
        return read_signature(given.text(0))
    if kind == "logs":
        wanted = given.raw(0)
        if wanted in ("all", "allWithVotes"):
            return "all"
        mentions = wanted.get("mentions") if isinstance(wanted, dict) else None
        if not isinstance(mentions, list) or len(mentions) != 1:
            raise invalid("Only 1 address supported" if mentions else "Invalid Request: Only `all`, `allWithVotes` and `mentions` are supported")
        return read_address(mentions[0])
    return ""


def already(provider: Provider, one: Subscription) -> Iterator[Any]:
    """Yield what a new subscription is told at once: the fate of a transaction that has landed already."""
    record = provider.record(one.subject, one.told) if one.kind == "signature" else None
    if record is not None:
        yield from _of_record(provider, one, record)


def news(provider: Provider, one: Subscription, landed: Record | None) -> Iterator[Any]:
    """Yield the results that a subscription is told now: `landed` in the current slot, or where it is None, with a new slot."""
    newest = provider.slot(one.commitment)
    if landed is not None:
        if landed.slot <= one.told and one.commitment == "processed" and provider.knows(landed, newest):
            yield from _of_record(provider, one, landed)
        return
    if one.kind == "slot":
        slot = provider.slot("processed")
        yield {"slot": slot, "parent": provider.cluster.clock.parent(slot), "root": provider.slot("finalized")}
    root = provider.slot("finalized")
    if one.kind == "root" and root > one.root:
        one.root = root
        yield root
    for record in provider.cluster.records.between(one.told + 1, newest):
        if not one.ended and provider.knows(record, newest):
            yield from _of_record(provider, one, record)
    one.told = max(one.told, newest)


def _of_record(provider: Provider, one: Subscription, record: Record) -> Iterator[Any]:
    slot, lookup = record.slot, provider.cluster.accounts.now
    if one.kind == "logs" and (one.subject == "all" or one.subject in record.keys):
        yield in_context(slot, {"signature": record.signature, "err": provider.fault_of(record), "logs": record.read_meta()["logMessages"]})
    elif one.kind == "signature" and one.subject == record.signature:
        one.ended = True
        yield in_context(slot, {"err": provider.fault_of(record)})
    elif one.kind == "account" and one.subject in record.changed:
        account = provider.account(one.subject, slot)
        gone = {"data": ["", "base64"], "executable": False, "lamports": 0, "owner": "1" * 32, "rentEpoch": 0, "space": 0}
        yield in_context(slot, account_json(account, one.config, lookup=lookup) or gone)
    elif one.kind == "program":
        for address in record.changed:
            account = provider.account(address, slot)
            if account is not None and str(account.owner) == one.subject and passes(account, one.config.raw("filters")):
                yield in_context(slot, {"pubkey": address, "account": account_json(account, one.config, lookup=lookup)})
