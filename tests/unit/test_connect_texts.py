"""The texts that connect a client as pages show them, and what a test request asks and reads."""

import json
from dataclasses import replace

import pytest

from config.clients.catalogue import RECIPES, plain_recipe
from config.clients.connection import Connection, Door
from config.clients.showing import Block, blocks
from control.dashboard.connect_texts import Piece, Span, pieces, spans
from control.dashboard.connect_trial import TrialOffer, _cost_max, _order, _read, _request
from metering.rates import Rate
from tests.fakes.control import a_card

TOKEN = "l5_1q_" + "0f" * 32
CONNECTION = Connection(origin="https://level5.test", forward="level5.test:8403", ca_file="/home/you/.config/level5/ca.pem", token=TOKEN)
OFFER = TrialOffer(provider="anthropic", title="Anthropic", model="m", cost_max=1)


def test_a_line_before_what_is_copied_says_where_it_goes() -> None:
    found = pieces((Block("In ~/.codex/config.toml:"), Block("a = 1", "toml"), Block("Try it:"), Block("codex", "sh"), Block("- one `x`\n- two")))

    assert found == (
        Piece(kind="code", text="a = 1", label="In ~/.codex/config.toml"),
        Piece(kind="code", text="codex", label="Try it"),
        Piece(kind="points", lines=((Span("one "), Span("x", is_code=True)), (Span("two"),))),
    )


def test_steps_and_prose_are_told_apart() -> None:
    steps, prose, last = pieces((Block("1. Open it.\n2. Press 3. twice."), Block("Just so."), Block("The end.")))

    assert (steps.kind, steps.lines[1]) == ("steps", (Span("Press 3. twice."),))
    assert [(piece.kind, piece.lines) for piece in (prose, last)] == [("text", ((Span("Just so."),),)), ("text", ((Span("The end."),),))]


def test_a_token_within_a_line_is_a_secret_of_its_own() -> None:
    assert spans(f"API Key: {TOKEN}, as `it` is") == (
        Span("API Key: "), Span(f"{TOKEN},", is_secret=True), Span(" as "), Span("it", is_code=True), Span(" is"),
    )  # fmt: skip


@pytest.mark.parametrize("client", RECIPES)
@pytest.mark.parametrize("door", Door)
def test_no_recipe_shows_a_token_outside_what_is_hidden(client: str, door: Door) -> None:
    if (client, door) == ("cursor", Door.FORWARD):
        pytest.skip("Cursor's own servers make the requests")
    connection = replace(CONNECTION, door=door)

    found = pieces(blocks(plain_recipe(client, connection), connection))

    shown = [span for piece in found for line in piece.lines for span in line]
    assert all(span.is_secret == (TOKEN in span.text) for span in shown)
    assert all(TOKEN not in piece.label for piece in found)
    assert any(piece.is_secret for piece in found) or any(span.is_secret for span in shown)


def test_the_cheapest_model_that_shows_what_it_writes_is_tried() -> None:
    dear, cheap = a_card().all()
    hidden = replace(cheap, hidden_output=True, prices=replace(cheap.prices, input=1, output=1))
    cheap = replace(cheap, prices=replace(cheap.prices, input=1_000_000))

    def cheapest(*rates: Rate) -> Rate:
        return min(rates, key=_order)

    assert cheapest(dear, hidden, cheap) is cheap
    assert _cost_max(dear) == -(-(40 * 3_300_000 + 16 * 16_500_000) // 10**6)


def test_each_provider_is_asked_in_its_own_format() -> None:
    asked = {name: _request(replace(OFFER, provider=name)) for name in ("anthropic", "openai", "openrouter")}

    assert [path for path, _ in asked.values()] == ["/v1/messages", "/v1/chat/completions", "/v1/chat/completions"]
    assert [body["model"] for _, body in asked.values()] == ["m", "m", "openrouter/m"]


@pytest.mark.parametrize(
    ("body", "answer", "counts"),
    [
        ({"content": [{"type": "thinking"}, {"type": "text", "text": "Hi"}], "usage": {"input_tokens": 3, "output_tokens": 2}}, "Hi", (3, 2)),
        ({"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}, "Hi", (3, 2)),
        ({"choices": [{"message": {"content": None}}], "usage": None}, "", (None, None)),
        ({"choices": []}, "", (None, None)),
        ({"content": "text"}, "", (None, None)),
        ({"content": [{"type": "text", "text": "x" * 5000}]}, "x" * 400, (None, None)),
        ([1], "", (None, None)),
    ],
)
def test_an_answer_of_any_shape_is_read(body: object, answer: str, counts: tuple[int | None, int | None]) -> None:
    headers = {"x-level5-charge": "12", "x-balance-remaining": "-3", "x-request-id": "r"}

    trial = _read(OFFER, 200, headers=headers, content=json.dumps(body).encode(), milliseconds=5)

    assert (trial.answer, (trial.input_tokens, trial.output_tokens), trial.charge, trial.balance) == (answer, counts, 12, -3)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b'{"error":{"message":"no money"}}', "no money"), (b"<html>", "The gateway answered 402."), (b'{"error":"text"}', "The gateway answered 402.")],
)
def test_a_refusal_is_said_in_its_own_words(content: bytes, problem: str) -> None:
    trial = _read(OFFER, 402, headers={"x-level5-charge": "1.5"}, content=content, milliseconds=5)

    assert (trial.problem, trial.is_broke, trial.charge, trial.answer) == (problem, True, None, "")
