"""Opening the tally that fits an answer."""

from metering.classify import BILLABLE, Operation
from metering.rates import Rate
from metering.requests import MeteredRequest
from metering.tally_anthropic import AnthropicMeter
from metering.tally_chat import ChatMeter
from metering.tally_core import BodyTally, FreeTally, StreamTally, Tally
from metering.tally_embeddings import EmbeddingsMeter, EmbeddingsTally
from metering.tally_meter import Meter, Terms
from metering.tally_responses import ResponsesMeter

__all__ = ["Tally", "open_tally"]

_METERS: dict[Operation, type[Meter]] = {
    Operation.MESSAGES: AnthropicMeter,
    Operation.CHAT_COMPLETIONS: ChatMeter,
    Operation.RESPONSES: ResponsesMeter,
    Operation.COMPACT: ResponsesMeter,
    Operation.EMBEDDINGS: EmbeddingsMeter,
}


def open_tally(operation: Operation, *, provider: str, request: MeteredRequest, rate: Rate, status: int, content_type: str) -> Tally:
    """Return the tally for an answer with this status and content type.

    What is not billable, and every answer with an error status, is free. An answer that is called
    JSON but turns out to be a stream is read as one.
    """
    if operation not in BILLABLE or status >= 400:
        return FreeTally(status=status)
    terms, meter = Terms(provider=provider, request=request, rate=rate), _METERS[operation]
    if operation is Operation.EMBEDDINGS:
        return EmbeddingsTally(EmbeddingsMeter(terms))
    if _is_stream(content_type, asked=request.stream):
        return StreamTally(meter(terms))
    return BodyTally(meter(terms), stream=lambda: StreamTally(meter(terms)))


def _is_stream(content_type: str, *, asked: bool) -> bool:
    kind = content_type.lower()
    return "event-stream" in kind or (asked and "json" not in kind)
