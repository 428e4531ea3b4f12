"""What can go wrong between an agent and its meter. No text here ever holds a key."""


class PlutusError(RuntimeError):
    """An event could not be recorded, or nobody knows whether it was.

    `status` is the HTTP status, None where there was no answer. `retry_after` is the wait in seconds that
    the server asked for. `retryable` tells that the very same event may succeed later.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.status, self.retry_after, self.retryable = status, retry_after, retryable


class PlutusAuthError(PlutusError):
    """The server does not take the API key (401): it is wrong, or was revoked."""


class PlutusUsageError(PlutusError, TypeError):
    """An adapter was given something whose usage it cannot read. Nothing was recorded and nothing was guessed."""
