"""What is found at a provider's own host, where clients of the forward door believe to be."""

import pytest

from metering.classify import Dialect, Operation, RequestRefused, classify_forwarded

HOSTS = {"anthropic": "", "openai": "", "openrouter": "/api"}


@pytest.mark.parametrize(
    ("provider", "method", "target", "operation", "dialect", "path"),
    [
        ("anthropic", "POST", "/v1/messages?beta=true", Operation.MESSAGES, Dialect.ANTHROPIC, "/v1/messages"),
        ("anthropic", "POST", "/v1/chat/completions", Operation.CHAT_COMPLETIONS, Dialect.OPENAI, "/v1/chat/completions"),
        ("anthropic", "GET", "/v1/models", Operation.LIST_MODELS, Dialect.ANTHROPIC, "/v1/models"),
        ("openai", "GET", "/v1/models/gpt-4o", Operation.GET_MODEL, Dialect.OPENAI, "/v1/models/gpt-4o"),
        ("openai", "POST", "//v1/responses/", Operation.RESPONSES, Dialect.OPENAI, "/v1/responses"),
        ("openrouter", "POST", "/api/v1/chat/completions", Operation.CHAT_COMPLETIONS, Dialect.OPENROUTER, "/v1/chat/completions"),
        ("openrouter", "POST", "/api/v1/messages", Operation.MESSAGES, Dialect.ANTHROPIC, "/v1/messages"),
        ("anthropic", "HEAD", "/", Operation.PROBE, Dialect.ANTHROPIC, "/v1"),
    ],
)
def test_a_path_at_a_providers_own_host_is_that_providers(provider: str, method: str, target: str, operation: Operation, dialect: Dialect, path: str) -> None:
    route = classify_forwarded(method, target, bases={provider: HOSTS[provider]})

    assert (route.operation, route.dialect, route.upstream_path, route.provider, route.token_text) == (operation, dialect, path, provider, None)


@pytest.mark.parametrize(
    ("provider", "method", "target", "status"),
    [
        ("anthropic", "GET", "/proxy/l5_1_00/balance", 404),
        ("anthropic", "POST", "/proxy/l5_1_00/v1/messages", 404),
        ("anthropic", "POST", "/v1/v1/messages", 404),
        ("anthropic", "POST", "/messages", 404),
        ("anthropic", "GET", "/health", 404),
        ("anthropic", "POST", "/v1/register", 404),
        ("anthropic", "GET", "/api/claude_code/settings", 404),
        ("openrouter", "POST", "/v1/messages", 404),
        ("openai", "GET", "/v1/responses", 405),
        ("openai", "POST", "/v1/../v1/responses", 400),
        ("openai", "POST", "http://elsewhere/v1/responses", 400),
    ],
)
def test_nothing_but_provider_paths_is_found_at_a_providers_host(provider: str, method: str, target: str, status: int) -> None:
    with pytest.raises(RequestRefused) as refused:
        classify_forwarded(method, target, bases={provider: HOSTS[provider]})

    assert (refused.value.status, refused.value.dialect) == (status, Dialect(provider))


def test_the_path_decides_among_providers_at_one_host_and_the_model_where_they_share_a_place() -> None:
    bases = {"anthropic": "/anthropic", "openai": "/openai", "openrouter": "/openrouter/api"}

    assert classify_forwarded("POST", "/openrouter/api/v1/responses", bases=bases).provider == "openrouter"
    assert classify_forwarded("POST", "/openai/v1/responses", bases=bases).provider == "openai"
    assert classify_forwarded("POST", "/v1/messages", bases={"anthropic": "", "openai": ""}).provider is None
