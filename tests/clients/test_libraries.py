"""Libraries that programs are written with, connected as `level5 connect` says, through both doors."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from _pytest.mark import ParameterSet

from config.clients.catalogue import recipe_for
from config.clients.connection import Door
from tests.clients.conftest import DRIVERS, GREETING, Driver, House, python_of

SONNET, CHAT, RESPONSES = "claude-sonnet-4-6", "gpt-4o", "gpt-5.2"


@dataclass(frozen=True)
class Library:
    """One library with one model."""

    client: str
    driver: str
    model: str
    environment: str | None = None  # None for what the project itself is tested with, and so for what takes no time to install and to start

    @property
    def param(self) -> ParameterSet:
        """It as a parameter of tests."""
        return pytest.param(self, id=f"{self.client}-{self.model}", marks=() if self.environment is None else pytest.mark.clients)

    def start(self, start_driver: Callable[..., Driver], *, empty: bool = False) -> Driver:
        python = sys.executable if self.environment is None else python_of(self.environment)
        # LangChain keeps its connections, and so its proxy's credentials, for as long as the process runs.
        alone = ("of-the-empty-account",) if empty and self.client == "langchain" else ()
        return start_driver(python, str(DRIVERS / self.driver), *alone)


LIBRARIES = [
    Library("anthropic-python", "official_sdks.py", SONNET),
    Library("openai-python", "official_sdks.py", CHAT),
    Library("openai-python", "official_sdks.py", RESPONSES),
    Library("langchain", "langchain_models.py", SONNET, "langchain"),
    Library("langchain", "langchain_models.py", CHAT, "langchain"),
    Library("pydantic-ai", "pydantic_ai_agents.py", SONNET, "pydantic-ai"),
    Library("pydantic-ai", "pydantic_ai_agents.py", RESPONSES, "pydantic-ai"),
]
PRINTED = [one for one in LIBRARIES if (one.client, one.model) != ("openai-python", CHAT)]


@pytest.fixture(params=[one.param for one in LIBRARIES])
def library(request: pytest.FixtureRequest) -> Library:
    found: Library = request.param
    return found


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_turn_is_answered_and_charged_to_the_microunit(house: House, door: Door, library: Library, stream: bool, start_driver: Callable[..., Driver]) -> None:
    connection = house.connection(library.client, door, model=library.model)

    turn = library.start(start_driver).ask(recipe_for(library.client, connection), model=library.model, stream=stream)

    assert turn.error is None
    assert turn.shown.startswith(GREETING)
    house.require_exact_charges(upstream_calls=1)


@pytest.mark.parametrize("library", [one.param for one in PRINTED])
def test_the_printed_program_runs_as_it_is(house: House, door: Door, library: Library, start_driver: Callable[..., Driver]) -> None:
    connection = house.connection(library.client, door, model=library.model)
    recipe = recipe_for(library.client, connection)
    assert recipe.program is not None

    turn = library.start(start_driver).ask(recipe, model=library.model, program=recipe.program.text)

    assert turn.error is None
    assert turn.shown.startswith(GREETING)
    house.require_exact_charges(upstream_calls=1)


def test_an_empty_account_is_told_so_at_once(house: House, door: Door, library: Library, start_driver: Callable[..., Driver]) -> None:
    connection = house.connection(library.client, door, model=library.model, empty=True)

    turn = library.start(start_driver, empty=True).ask(recipe_for(library.client, connection), model=library.model)

    assert turn.error is not None
    house.require_told_what_is_missing(turn.error)
    house.require_refusals(1)
    house.require_exact_charges(upstream_calls=0)


def test_a_failure_of_the_provider_is_repeated_and_costs_nothing(house: House, door: Door, library: Library, start_driver: Callable[..., Driver]) -> None:
    connection = house.connection(library.client, door, model=library.model)
    house.script("status=503")

    turn = library.start(start_driver).ask(recipe_for(library.client, connection), model=library.model, stream=True)

    assert turn.error is None
    assert turn.shown.startswith(GREETING)
    house.require_exact_charges(upstream_calls=2)


def test_a_stream_that_breaks_off_is_an_error_and_charged_for_what_came(
    house: House, door: Door, library: Library, start_driver: Callable[..., Driver]
) -> None:
    connection = house.connection(library.client, door, model=library.model)
    house.script("cut_after=8")

    turn = library.start(start_driver).ask(recipe_for(library.client, connection), model=library.model, stream=True)

    assert turn.error is not None, "half an answer was taken for a whole one"
    [visit] = house.visits()
    [charge] = house.charges()
    assert visit.ended == "cut"
    assert charge["estimated"] is True
    assert charge["usdc_amount"] < 0
