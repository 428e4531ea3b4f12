"""Coding agents in homes of their own, connected by `level5 connect --write`, through both doors."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.clients.connection import Door
from tests.clients.conftest import GREETING, House, npm_folder
from tests.clients.homes import Finished, UserHome

pytestmark = pytest.mark.clients


@dataclass(frozen=True)
class Agent:
    """One agent, how a user asks it something without a screen, and what it is known to do."""

    client: str
    model: str
    command: tuple[str, ...]
    calls_of_a_turn: int = 1
    tries_when_empty: int = 1

    def run(self, home: UserHome) -> Finished:
        program, *arguments = self.command
        return home.run(str(npm_folder() / "node_modules" / ".bin" / program), *arguments)


CLAUDE_CODE = Agent("claude-code", "claude-sonnet-4-6", ("claude", "-p", "say hi"))
CODEX = Agent("codex", "gpt-5.3-codex", ("codex", "exec", "--skip-git-repo-check", "--model", "gpt-5.3-codex", "say hi"), tries_when_empty=6)
# A first turn has its title written beside it, by one more request.
OPENCODE_CLAUDE = Agent(
    "opencode", "claude-sonnet-4-6", ("opencode", "run", "--model", "anthropic/claude-sonnet-4-6", "say hi"), calls_of_a_turn=2, tries_when_empty=2
)  # fmt: skip
OPENCODE_GPT = Agent("opencode", "gpt-5.2", ("opencode", "run", "--model", "openai/gpt-5.2", "say hi"), calls_of_a_turn=2, tries_when_empty=2)
AGENTS = [CLAUDE_CODE, CODEX, OPENCODE_CLAUDE, OPENCODE_GPT]


@pytest.fixture(params=AGENTS, ids=lambda one: f"{one.client}-{one.model}")
def agent(request: pytest.FixtureRequest) -> Agent:
    found: Agent = request.param
    return found


@pytest.fixture
def turn(house: House, door: Door, agent: Agent, tmp_path: Path) -> Callable[..., Finished]:
    """Return a function that connects the agent in a new home and lets it take one turn."""

    def take(*, empty: bool = False) -> Finished:
        return agent.run(UserHome(tmp_path).connect(house, agent.client, door=door, model=agent.model, empty=empty))

    return take


def test_a_turn_is_answered_and_charged_to_the_microunit(house: House, agent: Agent, turn: Callable[..., Finished]) -> None:
    done = turn()

    assert done.code == 0, done.shown
    assert GREETING in done.shown
    house.require_exact_charges(upstream_calls=agent.calls_of_a_turn)


def test_an_empty_account_is_told_what_is_missing(house: House, agent: Agent, turn: Callable[..., Finished]) -> None:
    done = turn(empty=True)

    assert done.code == 1, done.shown
    house.require_told_what_is_missing(done.shown)
    house.require_refusals(agent.tries_when_empty)
    house.require_exact_charges(upstream_calls=0)


def test_a_failure_of_the_provider_is_repeated_and_costs_nothing(house: House, agent: Agent, turn: Callable[..., Finished]) -> None:
    house.script("status=503", times=agent.calls_of_a_turn)

    done = turn()

    statuses = [visit.status for visit in house.visits()]
    assert done.code == 0, done.shown
    assert GREETING in done.shown
    assert statuses.count(503) == agent.calls_of_a_turn
    assert 1 <= statuses.count(200) <= agent.calls_of_a_turn  # OpenCode does without its title
    house.require_exact_charges(upstream_calls=len(statuses))


def test_a_stream_that_breaks_off_is_asked_for_again_and_each_is_charged(house: House, agent: Agent, turn: Callable[..., Finished]) -> None:
    house.script("cut_after=8", times=agent.calls_of_a_turn)

    done = turn()

    visits, charges = house.visits(), house.charges()
    whole = [house.price(visit) for visit in visits if visit.ended == "complete"]
    assert done.code == 0, done.shown
    assert GREETING in done.shown
    assert len(visits) - len(whole) == agent.calls_of_a_turn
    assert 1 <= len(whole) <= agent.calls_of_a_turn
    assert len(charges) == len(visits)
    assert sorted(-charge["usdc_amount"] for charge in charges if not charge["estimated"]) == sorted(whole)
