"""What a client is to be connected with, before any client gives it a form."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Provider = Literal["anthropic", "openai", "openrouter"]

PLACEHOLDER = "YOUR_API_TOKEN"  # where nobody has said which token
ANY_KEY = "level5"  # clients do not start without a key; through the forward door it is thrown away
DEFAULT_MODELS: dict[Provider, str] = {"anthropic": "claude-sonnet-4-6", "openai": "gpt-5.2"}


class Door(StrEnum):
    """By which of the two ways requests come in."""

    BASE_URL = "base-url"
    FORWARD = "forward"


class NotConnected(Exception):
    """A client cannot be connected as asked; the text says what would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where Level5 answers and who asks. `origin` has no slash at its end, `forward` is host:port, `ca_file` an absolute path."""

    origin: str
    forward: str
    ca_file: str
    token: str = field(default=PLACEHOLDER, repr=False)
    door: Door = Door.BASE_URL
    model: str = DEFAULT_MODELS["anthropic"]
    provider: Provider = "anthropic"  # who serves the model: it decides which format the client has to speak

    @property
    def by_proxy(self) -> bool:
        return self.door is Door.FORWARD

    @property
    def speaks_anthropic(self) -> bool:
        return self.provider == "anthropic"

    @property
    def openai_base(self) -> str:
        """The base URL of everything that speaks OpenAI's format, and of the AI SDK in either."""
        return f"{self.origin}/v1"

    @property
    def key(self) -> str:
        """What the client is given as its key: the token, unless the proxy's address carries it."""
        return ANY_KEY if self.by_proxy else self.token

    @property
    def proxy_url(self) -> str:
        """The value of HTTPS_PROXY. The token is the password: Claude Code and Node send nothing where that is empty, and programs
        that print a proxy's address hide it."""
        return f"http://{ANY_KEY}:{self.token}@{self.forward}"
