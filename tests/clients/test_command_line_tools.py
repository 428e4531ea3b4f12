"""llm and aider in homes of their own, connected by `level5 connect --write`."""

from pathlib import Path

import pytest

from config.clients.connection import Door
from tests.clients.conftest import GREETING, House, python_of
from tests.clients.homes import UserHome
from tests.fakes.appliance import CLIENT

pytestmark = pytest.mark.clients


@pytest.fixture
def home(tmp_path: Path) -> UserHome:
    return UserHome(tmp_path)


def llm(*arguments: str) -> list[str]:
    return [str(Path(python_of("llm")).with_name("llm")), *arguments]


def aider(*arguments: str) -> list[str]:
    quiet = ("--no-git", "--yes-always", "--no-pretty", "--no-check-update", "--no-show-model-warnings", "--analytics-disable")
    return [str(Path(python_of("aider")).with_name("aider")), *quiet, *arguments]


def llm_model(door: Door) -> str:
    """How llm names an OpenAI model: one of the gateway's own list, or OpenAI's."""
    return "level5/gpt-5.2" if door is Door.BASE_URL else "gpt-5.2"


@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "gpt-5.2"])
def test_llm_is_answered_and_charged_to_the_microunit(house: House, home: UserHome, model: str) -> None:
    home.connect(house, "llm", door=Door.BASE_URL, model=model)

    done = home.run(*llm("-m", f"level5/{model}", "say hi", *(["--no-stream"] if model == "gpt-5.2" else [])))

    assert done.code == 0, done.shown
    assert done.shown.startswith(GREETING)
    house.require_exact_charges(upstream_calls=1)


@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "gpt-5.2"])
def test_llm_is_answered_through_the_proxy(house: House, home: UserHome, forward: Door, model: str) -> None:
    home.connect(house, "llm", door=forward, model=model)

    done = home.run(*llm("-m", f"anthropic/{model}" if model.startswith("claude") else model, "say hi"))

    assert done.code == 0, done.shown
    assert done.shown.startswith(GREETING)
    house.require_exact_charges(upstream_calls=1)


def test_llm_shows_that_the_balance_is_used_up(house: House, home: UserHome, door: Door) -> None:
    home.connect(house, "llm", door=door, model="gpt-5.2", empty=True)

    done = home.run(*llm("-m", llm_model(door), "say hi"))

    assert done.code == 1
    house.require_told_what_is_missing(done.shown)
    house.require_refusals(1)
    house.require_exact_charges(upstream_calls=0)


def test_llm_repeats_after_a_failure_of_the_provider(house: House, home: UserHome, door: Door) -> None:
    home.connect(house, "llm", door=door, model="gpt-5.2")
    house.script("status=503")

    done = home.run(*llm("-m", llm_model(door), "say hi"))

    assert done.shown.startswith(GREETING)
    house.require_exact_charges(upstream_calls=2)


def test_llm_shows_that_a_stream_broke_off(house: House, home: UserHome, door: Door) -> None:
    home.connect(house, "llm", door=door, model="gpt-5.2")
    house.script("cut_after=8")

    done = home.run(*llm("-m", llm_model(door), "say hi"))

    assert done.code == 1, "half an answer was taken for a whole one"
    assert len(house.visits()) == 1
    assert [charge["estimated"] for charge in house.charges()] == [True]


@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "gpt-5.2"])
def test_aider_is_answered_and_charged_to_the_microunit(house: House, home: UserHome, model: str) -> None:
    home.connect(house, "aider", door=Door.BASE_URL, model=model)

    done = home.run(*aider("--message", "say hi"))

    assert done.code == 0
    assert GREETING in done.shown
    house.require_exact_charges(upstream_calls=1)


@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "gpt-5.2"])
def test_aider_is_answered_through_the_proxy(house: House, home: UserHome, forward: Door, model: str) -> None:
    home.connect(house, "aider", door=forward, model=model)

    done = home.run(*aider("--message", "say hi"))

    assert GREETING in done.shown
    house.require_exact_charges(upstream_calls=1)


def test_aider_shows_that_the_balance_is_used_up_with_each_of_its_tries(house: House, home: UserHome, door: Door) -> None:
    home.connect(house, "aider", door=door, model="claude-sonnet-4-6", empty=True)

    done = home.run(*aider("--message", "say hi"))

    house.require_told_what_is_missing(done.shown)
    assert "Retrying" in done.shown
    house.require_refusals(9)
    house.require_exact_charges(upstream_calls=0)


def test_aider_repeats_after_a_failure_of_the_provider(house: House, home: UserHome, door: Door) -> None:
    home.connect(house, "aider", door=door, model="claude-sonnet-4-6")
    house.script("status=503")

    done = home.run(*aider("--message", "say hi"))

    assert GREETING in done.shown
    house.require_exact_charges(upstream_calls=2)


def test_aider_repeats_a_stream_that_broke_off_and_both_are_charged(house: House, home: UserHome, door: Door) -> None:
    home.connect(house, "aider", door=door, model="claude-sonnet-4-6")
    house.script("cut_after=8")

    done = home.run(*aider("--message", "say hi"))

    assert GREETING in done.shown
    broken, whole = house.visits()
    first, second = house.charges()
    assert (broken.ended, whole.ended) == ("cut", "complete")
    assert (first["estimated"], second["estimated"]) == (True, False)
    assert second["usdc_amount"] == -house.price(whole)


def test_an_account_gets_a_token_of_its_own_for_each_client(house: House) -> None:
    operator = house.appliance

    said = operator.ask("connect", "codex", house.funded.deposit_code)

    [made] = [token for token in operator.ask("tokens", "list", house.funded.deposit_code) if token["name"] == "codex"]
    assert said["files"][0]["text"].count(said["api_token"]) == 1
    assert CLIENT.get(f"{operator.url}/proxy/{said['api_token']}/balance").status_code == 200
    operator.run("tokens", "revoke", made["token_id"])
    assert CLIENT.post(f"{operator.url}/v1/responses", headers={"authorization": f"Bearer {said['api_token']}"}, json={}).status_code == 401
    assert operator.balance(house.funded)["is_active"] is True
