"""The address with which the deposit program signs its own events."""

from typing import Final

from solders.pubkey import Pubkey

from chainwatch.events import EventRules

_SEED: Final = b"__event_authority"


def derive_event_rules(program: str, *, mint: str) -> EventRules:
    """Return the rules for the events of `program` about `mint`, both base58 keys."""
    authority, _ = Pubkey.find_program_address([_SEED], Pubkey.from_string(program))
    return EventRules(program=program, authority=str(authority), mint=mint)
