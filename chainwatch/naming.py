"""By what a transaction may name an account, as the settings allow it: the same for what is final, what is on its way and what is compared."""

from collections.abc import Mapping
from dataclasses import dataclass

from chainwatch.decode import ConfirmedTransaction
from chainwatch.deposits import EventRules, name_account
from chainwatch.event_authority import derive_event_rules
from config.chain import ChainSettings
from ledger.deposit_values import Naming, Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class NamingRules:
    """What counts beside memos and references of the message itself: memos of programs, and the events of one program."""

    inner_memo: bool = True
    event: EventRules | None = None

    @classmethod
    def of(cls, settings: ChainSettings, vault: Vault) -> "NamingRules":
        """Return the rules that the settings make for a vault."""
        event = derive_event_rules(settings.event_program, mint=vault.mint) if settings.event_program else None
        return cls(inner_memo=settings.inner_memo, event=event)

    def name(self, transaction: ConfirmedTransaction, references: Mapping[str, str], *, amount: int) -> Naming:
        """Return whom an arrival of `amount` is for; `references` has the deposit codes of keys that are references."""
        return name_account(transaction, references=references, inner_memo=self.inner_memo, event=self.event, amount=amount)
