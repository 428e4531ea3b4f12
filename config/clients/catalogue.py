"""Every client that can be connected, by the name it is asked for."""

from collections.abc import Callable
from dataclasses import replace

from config.clients import coding_agents, libraries
from config.clients.connection import DEFAULT_MODELS, Connection, Door, NotConnected, Provider
from config.clients.recipes import Recipe

RECIPES: dict[str, Callable[[Connection], Recipe]] = {
    "claude-code": coding_agents.claude_code,
    "codex": coding_agents.codex,
    "opencode": coding_agents.opencode,
    "aider": coding_agents.aider,
    "cursor": coding_agents.cursor,
    "llm": coding_agents.llm,
    "anthropic-python": libraries.anthropic_python,
    "openai-python": libraries.openai_python,
    "anthropic-js": libraries.anthropic_js,
    "openai-js": libraries.openai_js,
    "ai-sdk": libraries.ai_sdk,
    "langchain": libraries.langchain,
    "pydantic-ai": libraries.pydantic_ai,
}
LOOPBACK = ("127.", "localhost:", "[::1]:")
UNENCRYPTED = "The api_token travels to the proxy unencrypted: use it across networks that you trust only, or the base URL with https."
# What a client is given where nobody names a model: the dialect it speaks best decides.
CLIENT_MODELS: dict[str, tuple[Provider, str]] = {
    "codex": ("openai", "gpt-5.3-codex"),
    "cursor": ("openai", DEFAULT_MODELS["openai"]),
    "openai-python": ("openai", DEFAULT_MODELS["openai"]),
    "openai-js": ("openai", DEFAULT_MODELS["openai"]),
}


def default_model(client: str) -> tuple[Provider, str]:
    """Return the provider and the model that a client is connected with unless one is named."""
    return CLIENT_MODELS.get(client, ("anthropic", DEFAULT_MODELS["anthropic"]))


def recipe_for(client: str, connection: Connection) -> Recipe:
    """Return how a client is connected.

    Raises:
        NotConnected: there is no such client, or it cannot use this model or door.
    """
    if client not in RECIPES:
        raise NotConnected(f"no client {client!r} is known; choose one of {', '.join(RECIPES)}")
    if connection.door is Door.FORWARD and connection.provider == "openrouter":
        raise NotConnected(f"{connection.model} is OpenRouter's: a client would have to be pointed at openrouter.ai for the proxy to see it; use the base URL")
    recipe = RECIPES[client](connection)
    if connection.by_proxy and not connection.forward.startswith(LOOPBACK):
        return replace(recipe, notes=(*recipe.notes, UNENCRYPTED))
    return recipe


def plain_recipe(client: str, connection: Connection) -> Recipe:
    """Return how a client is connected with its own default model."""
    provider, model = default_model(client)
    return recipe_for(client, replace(connection, provider=provider, model=model))
