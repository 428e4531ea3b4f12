"""Which client asks, by what it says of itself: a word of ours for each family that is known, never the client's own text."""

from functools import lru_cache
from typing import Final

from mitmproxy import http

OTHER: Final = "other"
UNNAMED: Final = "unnamed"
_READ_MAX: Final = 200  # bytes
# The first that occurs counts: agents come before the libraries that they are made with.
_FAMILIES: Final = (
    (b"claude-cli", "claude-code"), (b"claude-code", "claude-code"), (b"codex", "codex"), (b"opencode", "opencode"), (b"aider", "aider"),
    (b"cursor", "cursor"), (b"cline", "cline"), (b"roo-code", "roo-code"), (b"kilo-code", "kilo-code"), (b"goose", "goose"), (b"crush", "crush"),
    (b"zed/", "zed"), (b"githubcopilot", "copilot"), (b"gemini-cli", "gemini-cli"), (b"qwen", "qwen-code"), (b"continue", "continue"),
    (b"litellm", "litellm"), (b"langchain", "langchain"), (b"llama-index", "llama-index"), (b"llama_index", "llama-index"), (b"pydantic-ai", "pydantic-ai"),
    (b"ai-sdk", "ai-sdk"), (b"openai/python", "openai-python"), (b"openai/js", "openai-js"), (b"openai/go", "openai-go"), (b"openai/java", "openai-java"),
    (b"openai/ruby", "openai-ruby"), (b"openai/", "openai-other"), (b"anthropic/python", "anthropic-python"), (b"anthropic/js", "anthropic-js"),
    (b"anthropic/go", "anthropic-go"), (b"anthropic/java", "anthropic-java"), (b"anthropicvertex", "anthropic-other"), (b"anthropic/", "anthropic-other"),
    (b"level5", "level5"), (b"curl/", "curl"), (b"wget/", "wget"), (b"httpie/", "httpie"), (b"postmanruntime", "postman"), (b"python-httpx", "python-httpx"),
    (b"python-requests", "python-requests"), (b"python-urllib", "python-urllib"), (b"aiohttp", "aiohttp"), (b"axios", "axios"), (b"undici", "node"),
    (b"node", "node"), (b"bun/", "bun"), (b"deno/", "deno"), (b"go-http-client", "go"), (b"okhttp", "java"), (b"java", "java"), (b"reqwest", "rust"),
    (b"ruby", "ruby"), (b"mozilla/", "browser"),
)  # fmt: skip


def family_of(headers: http.Headers) -> str:
    """Return the family of the client that sent these headers."""
    for name, value in headers.fields:
        if len(name) == 10 and name.lower() == b"user-agent":  # its own length
            return family_of_agent(value[:_READ_MAX])
    return UNNAMED


@lru_cache(maxsize=512)
def family_of_agent(agent: bytes) -> str:
    """Return the family of a User-Agent."""
    if not agent.strip():
        return UNNAMED
    small = agent.lower()
    return next((family for mark, family in _FAMILIES if mark in small), OTHER)
