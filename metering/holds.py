"""How much to set aside for a request before anything is forwarded."""

from dataclasses import dataclass

from ledger.money import Microunits


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldBounds:
    """What one request may cost, in microunits: input <= small <= expected <= worst.

    `input` is the price of the input alone, `small` of it and a small answer (the least that a stream is started
    for), `expected` the hold of a stream that shows its output, `worst` of any other request. `worst_input`
    is the part of `worst` that does not depend on the output limit. `output_per_mtok` is the dearest effective
    output rate, for all choices together. `output_limit` is the client's own limit.
    `hidden` tells that output may come that a stream does not show, so that only `worst` is safe.
    """

    input: Microunits
    small: Microunits
    expected: Microunits
    worst: Microunits
    worst_input: Microunits
    output_per_mtok: int
    output_max: int
    output_limit: int | None
    hidden: bool
