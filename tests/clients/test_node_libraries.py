"""Libraries for JavaScript, connected as `level5 connect` says, through both doors."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from config.clients.catalogue import recipe_for
from config.clients.connection import Connection, Door
from config.clients.recipes import Recipe
from tests.clients.conftest import DRIVERS, GREETING, Driver, House, Turn, npm_folder

pytestmark = pytest.mark.clients

SONNET, CHAT, RESPONSES = "claude-sonnet-4-6", "gpt-4o", "gpt-5.2"


@dataclass(frozen=True)
class Library:
    """One library with one model."""

    client: str  # for `level5 connect`
    driver: str
    model: str


LIBRARIES = [
    Library("openai-js", "official_sdks.mjs", CHAT),
    Library("openai-js", "official_sdks.mjs", RESPONSES),
    Library("ai-sdk", "ai_sdk.mjs", SONNET),
    Library("ai-sdk", "ai_sdk.mjs", CHAT),
    Library("ai-sdk", "ai_sdk.mjs", RESPONSES),
    Library("anthropic-js", "official_sdks.mjs", SONNET),
]
PRINTED = [one for one in LIBRARIES if (one.client, one.model) in {("anthropic-js", SONNET), ("openai-js", CHAT), ("ai-sdk", SONNET), ("ai-sdk", RESPONSES)}]


@pytest.fixture(params=LIBRARIES, ids=lambda one: f"{one.client}-{one.model}")
def library(request: pytest.FixtureRequest) -> Library:
    found: Library = request.param
    return found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the drivers beside the installed packages, where Node looks for them."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "node_modules").symlink_to(npm_folder() / "node_modules")
    for driver in DRIVERS.glob("*.mjs"):
        shutil.copy(driver, folder)
    return folder


@pytest.fixture
def ask(house: House, programs: Path, start_driver: Callable[..., Driver]) -> Callable[..., Turn]:
    def take_turn(library: Library, connection: Connection, *, stream: bool = False, printed: bool = False) -> Turn:
        # A trusted authority is read when Node starts. Without the forward door there is none, and nothing needs it.
        trusted = {"NODE_EXTRA_CA_CERTS": str(house.certificate)} if house.certificate.exists() else {}
        driver = start_driver("node", str(programs / library.driver), **trusted)
        recipe = recipe_of(library, connection)
        program = recipe.program.text if printed and recipe.program else None
        return driver.ask(recipe, model=library.model, stream=stream, program=program)

    return take_turn


def recipe_of(library: Library, connection: Connection) -> Recipe:
    """Return what is exported; the driver of the AI SDK is told the address that the printed program has in its text."""
    recipe = recipe_for(library.client, connection)
    if library.client == "ai-sdk" and not connection.by_proxy:
        return replace(recipe, environment=(*recipe.environment, ("GATEWAY", connection.openai_base)))
    return recipe


def connection_of(house: House, library: Library, door: Door, *, empty: bool = False) -> Connection:
    return house.connection(library.client, door, model=library.model, empty=empty)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_turn_is_answered_and_charged_to_the_microunit(house: House, door: Door, library: Library, stream: bool, ask: Callable[..., Turn]) -> None:
    turn = ask(library, connection_of(house, library, door), stream=stream)

    assert turn.error is None
    assert turn.shown.startswith(GREETING)
    house.require_exact_charges(upstream_calls=1)


@pytest.mark.parametrize("library", PRINTED, ids=lambda one: f"{one.client}-{one.model}")
def test_the_printed_program_runs_as_it_is(house: House, door: Door, library: Library, ask: Callable[..., Turn]) -> None:
    turn = ask(library, connection_of(house, library, door), printed=True)

    assert turn.error is None
    assert turn.shown.startswith(GREETING)
    house.require_exact_charges(upstream_calls=1)


def test_an_empty_account_is_told_so_at_once(house: House, door: Door, library: Library, ask: Callable[..., Turn]) -> None:
    turn = ask(library, connection_of(house, library, door, empty=True))

    assert turn.error is not None
    house.require_told_what_is_missing(turn.error)
    house.require_refusals(1)
    house.require_exact_charges(upstream_calls=0)


def test_a_failure_of_the_provider_is_repeated_and_costs_nothing(house: House, door: Door, library: Library, ask: Callable[..., Turn]) -> None:
    house.script("status=503")

    turn = ask(library, connection_of(house, library, door), stream=True)

    assert turn.error is None
    assert turn.shown.startswith(GREETING)
    house.require_exact_charges(upstream_calls=2)


def test_a_stream_that_breaks_off_is_an_error_and_charged_for_what_came(house: House, door: Door, library: Library, ask: Callable[..., Turn]) -> None:
    house.script("cut_after=8")

    turn = ask(library, connection_of(house, library, door), stream=True)

    assert turn.error is not None, "half an answer was taken for a whole one"
    [visit] = house.visits()
    [charge] = house.charges()
    assert visit.ended == "cut"
    assert charge["estimated"] is True
    assert charge["usdc_amount"] < 0
