"""What every account held at which slot: reads at an older commitment see older state, and a fork goes back to it."""

from bisect import bisect_right
from collections.abc import Iterable

from solders.account import Account

from sandbox.chain.machine import Machine


class AccountHistory:
    """The states of the accounts that ever changed, in the order of slots. Below `settled` only the last one is kept."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._states: dict[str, tuple[list[int], list[Account | None]]] = {}

    def at(self, address: str, slot: int) -> Account | None:
        """Return the account as it was at the end of `slot`."""
        states = self._states.get(address)
        if states is None:
            return self._machine.account(address)  # a program or a sysvar: nothing has ever changed it
        index = bisect_right(states[0], slot)
        return states[1][index - 1] if index else None

    def now(self, address: str) -> Account | None:
        """Return the account as it is."""
        return self._machine.account(address)

    def note(self, address: str, account: Account | None, *, slot: int, before: Account | None, settled: int) -> None:
        """Remember that the account changed in `slot`."""
        slots, states = self._states.setdefault(address, ([0], [before]))
        if slots[-1] == slot:
            states[-1] = account
        else:
            slots.append(slot)
            states.append(account)
        old = bisect_right(slots, settled) - 1
        if old > 0:
            del slots[:old], states[:old]

    def addresses_of(self, program: str) -> Iterable[str]:
        """Return the addresses that a program owns or may have owned at a slot that can still be asked for."""
        past = {address for address, (_, states) in self._states.items() if any(one is not None and str(one.owner) == program for one in states)}
        return sorted(past.union(self._machine.owned_by(program)))

    def go_back(self, slot: int) -> None:
        """Undo what happened after `slot`."""
        for address, (slots, states) in self._states.items():
            index = bisect_right(slots, slot)
            if index == len(slots):
                continue
            del slots[index:], states[index:]
            self._machine.set_account(address, states[-1] if states else None)
