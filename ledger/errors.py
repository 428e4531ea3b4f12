"""Every failure of the books that a caller is expected to handle, with its numbers."""


class LedgerError(Exception):
    """An expected failure of the books."""


class InsufficientFunds(LedgerError):
    """Less than the required minimum is available; nothing changed.

    `required`, `available` and `balance` are microunits.
    """

    def __init__(self, *, required: int, available: int, balance: int) -> None:
        super().__init__(f"required {required}, available {available} microunits")
        self.required, self.available, self.balance = required, available, balance


class UnknownToken(LedgerError):
    """No open account has this api_token, or it is malformed. Only an open shard says so."""


class InactiveAccount(LedgerError):
    """The token was revoked or is for looking only, or its account is suspended or closed; `reason` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ReadOnlyToken(InactiveAccount):
    """The token is made for looking at the account, not for spending from it or changing it."""

    def __init__(self) -> None:
        super().__init__("read_only")


class TooManyRequests(LedgerError):
    """The account has `concurrent_max` holds open; nothing changed. `balance` in microunits."""

    def __init__(self, *, concurrent_max: int, balance: int) -> None:
        super().__init__(f"{concurrent_max} requests at once")
        self.concurrent_max, self.balance = concurrent_max, balance


class BalanceUnavailable(LedgerError):
    """Redis did not answer: what was asked may or may not have happened; repeating it is safe."""


class ShardClosed(BalanceUnavailable):
    """The shard is being rebuilt, or the caller's epoch is not its epoch; nothing changed."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"shard {shard} is not open")
        self.shard = shard


class BooksUnderPressure(BalanceUnavailable):
    """Redis is nearly full or the outbox too long: no new hold is taken; settling goes on."""


class HoldEnded(LedgerError):
    """The hold was ended before (voided or expired) and cannot be placed or extended again."""


class HoldUnknown(LedgerError):
    """No hold and no trace of one with this request id in the open shard."""


class JournalUnavailable(LedgerError):
    """Postgres did not answer; nothing was recorded that a repeat would not find."""


class NotPostedYet(LedgerError):
    """The journal has not caught up with the hot balances in time; ask again shortly."""


class UnknownAccount(LedgerError):
    """No account has this id, deposit code or api_token."""


class WrongStore(LedgerError):
    """The store belongs to another instance or mode, or may lose data; the text says what to do."""


class BrokenInvariant(LedgerError):
    """The books contradict themselves: stop rather than keep wrong books."""


class UnknownDeposit(LedgerError):
    """No incoming move has this signature."""


class AlreadyAssigned(LedgerError):
    """The deposit is credited to another account, `public_id`; nothing changed."""

    def __init__(self, signature: str, public_id: str) -> None:
        super().__init__(f"deposit {signature} is credited to {public_id}")
        self.signature, self.public_id = signature, public_id


class VaultDiffers(LedgerError):
    """A move does not continue the vault's balance as it is recorded; nothing was written.

    `expected` is the recorded balance before the move `signature` (None: at the cursor), `found` what the page says, in microunits.
    """

    def __init__(self, text: str, *, signature: str | None, expected: int, found: int) -> None:
        super().__init__(text)
        self.signature, self.expected, self.found = signature, expected, found


class NoVault(LedgerError):
    """No vault, or not this one, was opened in these books."""


class UnknownClaim(LedgerError):
    """No claim has this id."""


class ClaimSpent(LedgerError):
    """The claim was used before; open another one."""


class ClaimExpired(LedgerError):
    """The claim's time is over; open another one."""


class UnknownKey(LedgerError):
    """No open account has this ingest key, or it is malformed or revoked. Only an open shard says so."""


class TooManyKeys(LedgerError):
    """The account has as many active ingest keys as it may have; nothing changed."""


class LastToken(LedgerError):
    """Without this token nobody could spend from the account any more; nothing changed."""


class TooManyTokens(LedgerError):
    """The account has as many active api_tokens as it may have; nothing changed."""


class UnknownWorkspace(LedgerError):
    """The account has no such workspace."""


class WorkspaceRefused(LedgerError):
    """The tier has no room for a further workspace; `cap` is how many it has."""

    def __init__(self, cap: int) -> None:
        super().__init__(f"the tier has {cap} workspaces")
        self.cap = cap


class RequestEnded(LedgerError):
    """The request was given up on, and somebody else has taken its place; nothing was recorded."""


class AccountExhausted(LedgerError):
    """The account is so far below zero that the books take no more reported usage; nothing changed. `balance` in microunits."""

    def __init__(self, balance: int) -> None:
        super().__init__(f"balance {balance} microunits")
        self.balance = balance
