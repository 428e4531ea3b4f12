"""Every failure of reading the chain that the watcher is expected to handle. No text holds an address of a provider, only its host."""


class ChainError(Exception):
    """An expected failure of reading the chain."""


class ProviderFailure(ChainError):
    """One provider did not give what was asked; another one, or the same one later, may."""


class Unavailable(ProviderFailure):
    """No answer, or not in time: the connection failed, was cut or hung, or the server is at fault."""


class Throttled(ProviderFailure):
    """The provider asks to be left alone; `retry_after` in seconds where it says for how long."""

    def __init__(self, text: str, *, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class BadAnswer(ProviderFailure):
    """What came is not what the protocol says: broken JSON, a missing field, a forged signature, or longer than any answer may be."""


class RefusedCall(ProviderFailure):
    """The provider answered with an error of JSON-RPC; `code` is its number."""

    def __init__(self, text: str, *, code: int) -> None:
        super().__init__(text)
        self.code = code


class UnknownBefore(RefusedCall):
    """The provider does not know the signature that the page should end before."""


class BehindSlot(RefusedCall):
    """The provider has not reached the slot that the answer must at least be of."""


class HistoryMissing(RefusedCall):
    """The provider has thrown away, or cannot reach, what was asked for: never the same as there being nothing."""


class SlotSkipped(RefusedCall):
    """No block was made in this slot, or the provider has none of it."""


class Gap(ChainError):
    """A provider's list of transactions, or a transaction of it, is missing something. Nothing may be recorded beyond it."""


class ChainBroken(Gap):
    """The balances do not join: some move between two others was hidden, or one was told wrongly.

    `after` and `until` are the slots between which something is amiss.
    """

    def __init__(self, text: str, *, after: int, until: int) -> None:
        super().__init__(text)
        self.after, self.until = after, until


class Disagreement(ChainError):
    """Two providers tell differently of one transaction: held back until they agree."""


class SecondProviderMissing(ChainError):
    """A deposit is above the limit of what one provider is believed, and no second one can show it now."""


class NoProvider(ChainError):
    """No provider can be used now; the text says what is wrong with each."""


class WrongCluster(ChainError):
    """The providers are of another cluster than the books, or the mint is not that cluster's USDC; the text says what to do."""


class WrongVault(ChainError):
    """The vault is not the treasury's account of the mint; the text says what to do."""
