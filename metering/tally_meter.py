"""What a tally must know of a request, and what each dialect's reader must be able to do."""

import re
from abc import ABC, abstractmethod
from typing import Any

from ledger.entries import UsageLine
from ledger.values import value
from metering.rates import BPS, Rate
from metering.requests import MeteredRequest
from metering.usage import as_text

# English has about four bytes to a token, other scripts and code about three: three is the estimate upwards.
BYTES_PER_TOKEN = 3
# A model writes a few tokens to end its turn, and some dozens around each call of a tool.
TOKENS_AROUND_ANSWER = 8
TOKENS_AROUND_TOOL_CALL = 50
NEUTRAL_TIERS = frozenset({"", "standard", "default", "auto"})

STRING = rb'\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"'


@value
class Terms:
    """What a tally must know of the request: who answers, what was asked, and the rate it was priced at."""

    provider: str
    request: MeteredRequest
    rate: Rate

    def line_tier(self, answered: str | None) -> str | None:
        """Return the tier to bill: the answer's; where it is silent the request's, if that is dearer."""
        if answered is not None:
            return None if answered in NEUTRAL_TIERS else answered
        asked = self.request.service_tier
        return asked if asked and self.rate.service_tiers.get(asked, 0) > BPS else None

    def asked_tier(self, prefix: str) -> str | None:
        """Return the place or speed that was asked for, such as `geo_us`, if it is dearer than the usual."""
        dearer = (tier for tier in self.request.tiers if tier.startswith(prefix) and self.rate.service_tiers.get(tier, 0) > BPS)
        return next(dearer, None)

    def input_estimate(self) -> int:
        """Return the input tokens of an answer that did not tell them, estimated upwards."""
        bound = self.request.input
        if bound.remote:
            return self.rate.context * self.request.passes
        tokens = -(-bound.text_bytes // BYTES_PER_TOKEN) + bound.media_tokens + bound.audio_tokens
        # A list of texts to embed is not bounded by the context of one of them.
        return tokens if self.rate.kind == "embedding" else min(tokens, self.rate.context) * self.request.passes

    def output_cap(self) -> int:
        """Return the most output tokens that this request can have brought."""
        return (self.request.output_limit or self.rate.output_max) * max(1, self.request.choices)


class Meter(ABC):
    """Reads the events of one dialect. `final` tells that the closing figures are in.

    `output` finds the texts in which a model's output shows; `output_bytes` and `deltas` count
    them, `hidden_tokens` what a model writes around them (tool calls, ends of turns). `reasons_unseen`
    tells that the model may just be writing what the answer does not show.
    """

    output: re.Pattern[bytes]
    reasons_unseen = False

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.output_bytes = self.deltas = self.hidden_tokens = self.signature_bytes = 0
        self.model: str | None = None
        self.response_id: str | None = None
        self.service_tier: str | None = None
        self.cost: str | None = None
        self.error: str | None = None
        self.final = False
        self.terminal = False
        self.doubts: tuple[str, ...] = ()

    @abstractmethod
    def matters(self, block: bytes) -> bool:
        """Tell cheaply whether an event in these bytes may have to be read. Wrong only on the side of yes."""

    @abstractmethod
    def read_event(self, name: bytes, event: Any) -> None:
        """Take in one event of a stream.

        Raises:
            UnreadableUsage: its usage cannot be billed as it stands.
        """

    @abstractmethod
    def read_body(self, body: dict[str, Any]) -> bool:
        """Take in an answer that was not streamed; False when there is nothing to bill and nothing missing.

        Raises:
            UnreadableUsage: its usage cannot be billed as it stands.
        """

    @abstractmethod
    def lines(self) -> tuple[UsageLine, ...]:
        """Return the billing lines of the figures read so far; only asked for when `final`."""

    def known_line(self, output_tokens: int) -> UsageLine:
        """Return the line of an answer without final figures: known input, else its estimate."""
        terms = self.terms
        return UsageLine(
            provider=terms.provider,
            model=self.model or terms.rate.model,
            input_tokens=terms.input_estimate(),
            output_tokens=output_tokens,
            service_tier=terms.line_tier(self.service_tier),
        )

    def output_floor(self) -> int:
        """Return the output tokens that the provider has told of so far."""
        return 0

    def measure(self, block: bytes) -> None:
        """Count the output that a client can see in these whole events."""
        for text in self.output.findall(block):
            if text:
                self.output_bytes += len(text)
                self.deltas += 1

    def output_seen(self) -> bool:
        """Tell whether any output has come, shown or as good as shown."""
        return self.output_bytes > 0

    def output_estimate(self) -> int:
        """Return the output tokens of what was measured, estimated upwards, 0 only when nothing was."""
        seen = max(-(-self.output_bytes // BYTES_PER_TOKEN), self.deltas)
        return seen + self.hidden_tokens + TOKENS_AROUND_ANSWER if seen or self.hidden_tokens else 0

    def end_marker(self, data: bytes) -> bool:  # noqa: ARG002 - only OpenAI's chat has one
        """Take in the data of an event that is the dialect's end mark rather than JSON; False for any other."""
        return False

    def made(self) -> tuple[str, ...]:
        """Return the ids of what the provider keeps of this answer and later requests may refer to."""
        return ()

    def note_answer(self, answer: dict[str, Any]) -> None:
        """Keep what an answer, whole or in part, says of itself."""
        self.model = as_text(answer.get("model")) or self.model
        self.response_id = as_text(answer.get("id")) or self.response_id
        self.service_tier = as_text(answer.get("service_tier")) or self.service_tier
