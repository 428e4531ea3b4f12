"""RPC methods about accounts and tokens."""

from collections.abc import Callable
from typing import Any, Final

from solders.account import Account
from solders.pubkey import Pubkey

from sandbox.chain.account_json import account_json, passes
from sandbox.chain.arguments import INVALID_PARAMS, Arguments, Config, RpcError, invalid, read_address
from sandbox.chain.keys import TOKEN_PROGRAMS
from sandbox.chain.landing import amount_json
from sandbox.chain.machine import TokenHolding, read_decimals, read_holding
from sandbox.chain.provider import Provider, in_context

ACCOUNTS_MAX: Final = 100


def get_balance(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return the lamports of an address."""
    slot = provider.read_slot(given.config(1))
    account = provider.account(given.address(0), slot)
    return in_context(slot, account.lamports if account is not None else 0)


def get_account_info(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return an account, null where there is none."""
    config = given.config(1)
    slot = provider.read_slot(config)
    return in_context(slot, _shown(provider, provider.account(given.address(0), slot), config, slot=slot))


def get_multiple_accounts(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return up to 100 accounts in the order of their addresses."""
    config, addresses = given.config(1), [read_address(one) for one in given.items(0, most=ACCOUNTS_MAX)]
    slot = provider.read_slot(config)
    return in_context(slot, [_shown(provider, provider.account(address, slot), config, slot=slot) for address in addresses])


def get_program_accounts(provider: Provider, given: Arguments) -> Any:
    """Return the accounts of a program that pass the filters."""
    config, program = given.config(1), given.address(0)
    slot = provider.read_slot(config)
    found = [(address, one) for address, one in _owned(provider, program, slot) if passes(one, config.raw("filters"))]
    rows = [{"pubkey": address, "account": _shown(provider, one, config, slot=slot)} for address, one in found]
    return in_context(slot, rows) if config.flag("withContext") else rows


def get_token_account_balance(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return what a token account holds."""
    slot = provider.read_slot(given.config(1))
    account = provider.account(given.address(0), slot)
    if account is None:
        raise invalid("could not find account")
    holding = read_holding(account) if str(account.owner) in TOKEN_PROGRAMS else None
    if holding is None:
        raise invalid("not a Token account")
    return in_context(slot, amount_json(holding.amount, read_decimals(provider.account(holding.mint, slot))))


def get_token_supply(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return how many tokens of a mint there are."""
    slot = provider.read_slot(given.config(1))
    mint = provider.account(given.address(0), slot)
    if mint is None or str(mint.owner) not in TOKEN_PROGRAMS or read_holding(mint) is not None:
        raise RpcError(INVALID_PARAMS, "Invalid param: not a Token mint")
    return in_context(slot, amount_json(int.from_bytes(bytes(mint.data)[36:44], "little"), read_decimals(mint)))


def get_token_accounts_by_owner(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return the token accounts of an owner, of one mint or of one token program."""
    owner = given.address(0)
    return _token_accounts(provider, given, lambda _, holding: holding.owner == owner)


def get_token_accounts_by_delegate(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return the token accounts that an address may spend from."""
    delegate = b"\1\0\0\0" + bytes(Pubkey.from_string(given.address(0)))
    return _token_accounts(provider, given, lambda account, _: bytes(account.data)[72:108] == delegate)


def _token_accounts(provider: Provider, given: Arguments, fits: Callable[[Account, TokenHolding], bool]) -> dict[str, Any]:
    config, wanted = given.config(2), given.raw(1)
    if not isinstance(wanted, dict) or ("mint" in wanted) == ("programId" in wanted):
        raise invalid("a mint or a programId must be given")
    slot = provider.read_slot(config)
    mint = read_address(wanted["mint"]) if "mint" in wanted else None
    if mint is not None and provider.account(mint, slot) is None:
        raise invalid("could not find mint")
    programs = TOKEN_PROGRAMS if mint is not None else (read_address(wanted["programId"]),)
    rows: list[dict[str, Any]] = []
    for program in programs:
        for address, account in _owned(provider, program, slot):
            holding = read_holding(account)
            if holding is not None and fits(account, holding) and mint in (None, holding.mint):
                rows.append({"pubkey": address, "account": _shown(provider, account, config, slot=slot)})
    return in_context(slot, rows)


def _owned(provider: Provider, program: str, slot: int) -> list[tuple[str, Account]]:
    accounts = [(address, provider.account(address, slot)) for address in provider.cluster.accounts.addresses_of(program)]
    return [(address, one) for address, one in accounts if one is not None and str(one.owner) == program]


def _shown(provider: Provider, account: Account | None, config: Config, *, slot: int) -> dict[str, Any] | None:
    return account_json(account, config, lookup=lambda mint: provider.account(mint, slot))
