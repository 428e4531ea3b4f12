"""What a request is: the one classifier that authentication and metering both use.

A path that one of the two accepted and the other did not see would be free service, so there is
only this function, and what goes upstream is the path written here, never the client's spelling.
"""

from dataclasses import dataclass, field
from enum import StrEnum

TARGET_CHARACTERS_MAX = 8192


class Dialect(StrEnum):
    """The shape of requests, answers and errors that the caller speaks."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    OPENROUTER = "openrouter"


class Operation(StrEnum):
    """What a provider is asked to do."""

    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    CHAT_COMPLETIONS = "chat_completions"
    RESPONSES = "responses"
    INPUT_TOKENS = "input_tokens"
    COMPACT = "compact"
    EMBEDDINGS = "embeddings"
    LIST_MODELS = "list_models"
    GET_MODEL = "get_model"
    PROBE = "probe"


BILLABLE = frozenset({Operation.MESSAGES, Operation.CHAT_COMPLETIONS, Operation.RESPONSES, Operation.COMPACT, Operation.EMBEDDINGS})
FREE_UPSTREAM = frozenset({Operation.COUNT_TOKENS, Operation.INPUT_TOKENS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A request that the proxy itself answers or forwards.

    `token_text` is the api_token of the path, or None when a header carries it. `upstream_path`
    is canonical and begins with `/v1`; it follows the provider's base URL. `query` is the client's,
    without the question mark. `provider` is set where the path names one; otherwise the model
    decides. `model` is the name asked for by GET_MODEL.
    """

    operation: Operation
    dialect: Dialect
    upstream_path: str
    query: str = ""
    token_text: str | None = field(default=None, repr=False)
    provider: str | None = None
    model: str | None = None

    @property
    def billable(self) -> bool:
        """True when the request is forwarded under a hold and its answer is charged."""
        return self.operation in BILLABLE

    @property
    def free_upstream(self) -> bool:
        """True when the request is forwarded and costs nothing: its answer is never billed."""
        return self.operation in FREE_UPSTREAM


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRoute:
    """A request for the control API: everything that is not the proxy's. `path` is canonical."""

    path: str = field(repr=False)  # may hold an api_token
    query: str = ""


class RequestRefused(Exception):
    """We refuse a request before anything is forwarded; the text says what to do.

    `dialect` is None when the path does not tell it. `details` holds figures and names that an
    error body may carry.
    """

    def __init__(self, status: int, code: str, *, message: str, dialect: Dialect | None = None, details: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.dialect, self.details = dialect, details or {}
