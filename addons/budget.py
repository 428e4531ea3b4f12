"""Bytes of request bodies that one worker keeps at once, in all and for each account."""


class BodyBudget:
    """Counts what is buffered; nothing is buffered that it has not counted."""

    def __init__(self, total_max: int) -> None:
        self._total_max, self._account_max = total_max, max(total_max // 4, 1)
        self._total = 0
        self._by_account: dict[int, int] = {}

    def take(self, account: int | None, size: int) -> bool:
        """Count `size` more bytes, unless there is no room for them. Without an account they count in all only."""
        if self._total + size > self._total_max:
            return False
        if account is not None:
            mine = self._by_account.get(account, 0) + size
            if mine > self._account_max:
                return False
            self._by_account[account] = mine
        self._total += size
        return True

    def give_back(self, account: int | None, size: int) -> None:
        """The bytes are not kept any more."""
        self._total -= size
        if account is None:
            return
        left = self._by_account.get(account, 0) - size
        if left > 0:
            self._by_account[account] = left
        else:
            self._by_account.pop(account, None)
