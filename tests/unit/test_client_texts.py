"""What `level5 connect` says, before anything is written."""

import json
import tomllib
from dataclasses import replace

import pytest
from ruamel.yaml import YAML

from config.clients.catalogue import RECIPES, default_model, plain_recipe, recipe_for
from config.clients.connection import ANY_KEY, Connection, Door, NotConnected
from config.clients.page import PAGE, write_page
from config.clients.recipes import FileFormat
from config.clients.showing import as_terminal
from config.clients.writing import write_file
from config.rate_card import load_rate_card

TOKEN = "l5_1_" + "0" * 64
BASE = Connection(origin="https://llm.example.com", forward="llm.example.com:8403", ca_file="/home/me/a folder/ca.pem", token=TOKEN)
PROXIED = replace(BASE, door=Door.FORWARD)
PROXY = f"http://{ANY_KEY}:{TOKEN}@llm.example.com:8403"
BY_PROXY = [client for client in RECIPES if client != "cursor"]


def test_the_page_says_what_the_command_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == write_page(), "run `make settings`"


@pytest.mark.parametrize("client", RECIPES)
def test_every_client_is_told_where_the_gateway_is_and_which_token(client: str) -> None:
    shown = as_terminal(plain_recipe(client, BASE), BASE)

    assert "https://llm.example.com" in shown
    assert TOKEN in shown


@pytest.mark.parametrize("client", RECIPES)
def test_no_token_stands_in_an_address_that_clients_print(client: str) -> None:
    assert f"/proxy/{TOKEN}" not in as_terminal(plain_recipe(client, BASE), BASE)


@pytest.mark.parametrize("client", RECIPES)
def test_every_default_model_has_a_price_at_the_provider_it_is_said_to_have(client: str) -> None:
    provider, model = default_model(client)

    assert load_rate_card().find(model).provider == provider


@pytest.mark.parametrize("client", BY_PROXY)
def test_through_the_proxy_the_token_is_in_its_address_alone(client: str) -> None:
    shown = as_terminal(plain_recipe(client, PROXIED), PROXIED)

    assert PROXY in shown
    assert "ca.pem" in shown
    assert TOKEN not in shown.replace(PROXY, "")
    assert ANY_KEY in shown


@pytest.mark.parametrize("client", BY_PROXY)
@pytest.mark.parametrize("connection", [BASE, PROXIED], ids=["base-url", "forward"])
def test_files_can_be_read_in_the_format_they_are_in(client: str, connection: Connection) -> None:
    for file in plain_recipe(client, connection).files:
        text = write_file(file)
        read = {FileFormat.JSON: json.loads, FileFormat.TOML: tomllib.loads, FileFormat.YAML: YAML(typ="safe", pure=True).load}[file.format]
        assert read(text) == file.values


def test_paths_with_blanks_are_quoted_for_the_shell() -> None:
    assert "export SSL_CERT_FILE='/home/me/a folder/ca.pem'\n" in as_terminal(plain_recipe("anthropic-python", PROXIED), PROXIED)


@pytest.mark.parametrize(
    ("client", "expected"),
    [("aider", "openai/gpt-5.2"), ("langchain", "ChatOpenAI"), ("pydantic-ai", "openai:gpt-5.2"), ("ai-sdk", "createOpenAI"), ("opencode", "openai/gpt-5.2")],
)
def test_the_model_decides_the_format(client: str, expected: str) -> None:
    connection = replace(BASE, model="gpt-5.2", provider="openai")

    assert expected in as_terminal(recipe_for(client, connection), connection)


def test_openrouters_models_are_asked_for_in_a_format_they_are_served_in() -> None:
    connection = replace(BASE, model="glm-5", provider="openrouter")

    assert "openai-chat:glm-5" in as_terminal(recipe_for("pydantic-ai", connection), connection)
    assert "@ai-sdk/openai-compatible" in as_terminal(recipe_for("opencode", connection), connection)
    assert 'level5.chat("glm-5")' in as_terminal(recipe_for("ai-sdk", connection), connection)


def test_what_cannot_work_is_refused_with_what_would() -> None:
    openai, openrouter = replace(BASE, model="gpt-5.2", provider="openai"), replace(PROXIED, model="glm-5", provider="openrouter")

    with pytest.raises(NotConnected, match="choose another model"):
        recipe_for("claude-code", openai)
    with pytest.raises(NotConnected, match="choose another model"):
        recipe_for("codex", BASE)
    with pytest.raises(NotConnected, match="use the base URL"):
        recipe_for("aider", openrouter)
    with pytest.raises(NotConnected, match="use the base URL"):
        recipe_for("cursor", PROXIED)
    with pytest.raises(NotConnected, match="choose one of claude-code, codex"):
        recipe_for("emacs", BASE)


@pytest.mark.parametrize("client", BY_PROXY)
def test_a_token_that_would_cross_a_network_in_the_clear_is_warned_of(client: str) -> None:
    near = replace(PROXIED, forward="127.0.0.1:8403")

    assert "unencrypted" in as_terminal(plain_recipe(client, PROXIED), PROXIED)
    assert "unencrypted" not in as_terminal(plain_recipe(client, near), near)
    assert "unencrypted" not in as_terminal(plain_recipe(client, BASE), BASE)


def test_cursor_is_told_that_only_a_public_address_can_work() -> None:
    private = replace(BASE, origin="http://127.0.0.1:8402")

    assert "is no https address" in as_terminal(plain_recipe("cursor", private), private)
    assert "is no https address" not in as_terminal(plain_recipe("cursor", BASE), BASE)
