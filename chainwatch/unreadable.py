"""The one failure of the pure modules, for the standard library alone and without a word about providers."""


class Unreadable(Exception):
    """What was given is no such thing, or contradicts itself; `reason` is a short phrase without anything of the input.

    A finalized transaction is never unreadable in itself: a provider told it wrongly, so it is asked for again elsewhere.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
