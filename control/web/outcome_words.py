"""The words for what became of requests that failed, in the order in which pages list them."""

from typing import Final

from ledger.activity_values import Outcome

OUTCOMES: Final = {
    Outcome.BALANCE: "Refused: balance too low",
    Outcome.RATE_LIMITED: "Too many at once (429)",
    Outcome.CLIENT_ERROR: "Request could not be served (4xx)",
    Outcome.PROVIDER_ERROR: "Provider failed (5xx)",
    Outcome.TIMEOUT: "Provider took too long",
    Outcome.CUT: "Answer broke off",
    Outcome.UNAVAILABLE: "Gateway could not (503)",
}
