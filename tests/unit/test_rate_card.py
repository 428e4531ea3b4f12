"""The rate card's file: read strictly, shipped with the specification's prices, imported and checked."""

import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.prices import app
from config.price_drift import differences
from config.published_prices import InexactPrice, PublishedModel, microunits, published_models
from config.rate_card import RateCardError, load_rate_card, parse_rate_card, price_from_body, shipped_rate_card
from config.rate_card_text import IMPORT_MARK, merge, render, written_rows
from ledger.entries import RequestId, UsageLine
from metering.pricing import charge_record
from metering.rate_cards import PROVIDERS
from metering.rates import UnknownModel

# Input, output and cache read per million tokens, mark-up included, as the specification states them; OpenAI's rows times 1.1.
SPECIFIED = {
    "anthropic/claude-sonnet-4-6": (3_300_000, 16_500_000, 330_000),
    "anthropic/claude-opus-4-6": (5_500_000, 27_500_000, 550_000),
    "anthropic/claude-haiku-4-5-20251001": (1_100_000, 5_500_000, 110_000),
    "openai/gpt-5.2": (1_925_000, 15_400_000, 192_500),
    "openai/gpt-5.3-codex": (1_925_000, 15_400_000, 192_500),
    "openai/gpt-4o": (2_750_000, 11_000_000, 1_375_000),
    "openai/o3": (2_200_000, 8_800_000, 550_000),
    "openrouter/qwen3-max": (1_320_000, 6_600_000, 264_000),
    "openrouter/qwen3-coder-plus": (1_100_000, 5_500_000, 220_000),
    "openrouter/glm-5": (1_100_000, 3_520_000, 220_000),
    "openrouter/grok-4-1-fast": (220_000, 550_000, 55_000),
    "openrouter/gemini-3.1-pro-preview": (2_200_000, 13_200_000, 550_000),
}
ROW = "input = 10\noutput = 20\ncontext = 1000\n"


def row(text: str = "", head: str = "") -> str:
    return f'{head}\n[openai."gpt-x"]\n{ROW}{text}\n'


def test_the_shipped_card_has_the_prices_of_the_specification() -> None:
    view = load_rate_card().pricing_view()

    for name, prices in SPECIFIED.items():
        assert (view[name]["input_per_1m"], view[name]["output_per_1m"], view[name]["cache_read_per_1m"]) == prices
    assert view["anthropic/claude-sonnet-4-6"]["cache_write_per_1m"] == 4_125_000
    assert view["anthropic/claude-sonnet-4-6"]["cache_write_1h_per_1m"] == 6_600_000
    assert view["anthropic/claude-opus-4-6"]["cache_write_per_1m"] == 6_875_000


def test_the_shipped_card_is_read_quickly() -> None:
    load_rate_card()
    begun = time.process_time()
    load_rate_card()

    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("qwen3-max", "qwen/qwen3-max"),
        ("z-ai/glm-5", "z-ai/glm-5"),
        ("grok-4.1-fast", "x-ai/grok-4.1-fast"),
        ("gemini-3.1-pro-preview", "google/gemini-3.1-pro-preview"),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("claude-opus-4-20250514", "claude-opus-4-20250514"),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("text-embedding-3-small", "text-embedding-3-small"),
    ],
)
def test_the_shipped_card_knows_what_the_providers_call_a_model(name: str, sent: str) -> None:
    assert load_rate_card().find(name).provider_model == sent


def test_what_a_row_leaves_out_is_filled_in() -> None:
    card = parse_rate_card(row('tiers = [{ above = 500, input = 30, output = 25 }]\n[openai."gpt-e"]\ninput = 7\ncontext = 5\nkind = "embedding"'))
    found, embedding = card.find("gpt-x"), card.find("gpt-e")

    assert (found.prices.cache_write_5m, found.prices.cache_write_1h, found.prices.cache_read) == (10, 10, 10)
    assert (found.prices.input_audio, found.prices.output_audio) == (10, 20)
    assert (found.tiers[0].prices.cache_read, found.tiers[0].prices.output_audio) == (30, 25)
    assert (found.markup_bps, found.output_max, found.provider_model) == (1000, 1000, "gpt-x")
    assert (embedding.prices.output, embedding.kind) == (0, "embedding")


def test_a_tier_raises_what_it_does_not_name_in_step_with_the_input() -> None:
    text = row("cache_read = 3\ncache_write_5m = 13\ntiers = [{ above = 500, input = 20, output = 30 }]")
    prices = parse_rate_card(text).find("gpt-x").tiers[0].prices

    assert (prices.cache_read, prices.cache_write_5m) == (6, 26)


def test_the_markup_is_that_of_the_model_or_the_provider_or_the_card() -> None:
    text = f"markup_bps = 100\n[openai]\nmarkup_bps = 200\n[openai.a]\n{ROW}[openai.b]\n{ROW}markup_bps = 0\n[anthropic.c]\n{ROW}"
    card = parse_rate_card(text)

    assert [card.find(name).markup_bps for name in "abc"] == [200, 0, 100]


def test_versions_of_a_model_hold_from_their_days() -> None:
    text = f"[[openai.a]]\n{ROW}[[openai.a]]\ninput = 5\noutput = 20\ncontext = 1000\neffective_from = 2026-08-21\n"
    card = parse_rate_card(text)
    day = int(datetime(2026, 8, 21, tzinfo=UTC).timestamp() * 1000)

    assert (card.at(day - 1).find("a").prices.input, card.at(day).find("a").prices.input) == (10, 5)
    assert parse_rate_card(text, at_ms=day - 1).find("a").prices.input == 10
    assert card.at(day).pricing_view()["openai/a"]["effective_from"] == "2026-08-21"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("input = ", "TOML"),
        ("", "no rates"),
        ("markup_bps = 1000", "no rates"),
        ("colour = 1", "colour"),
        ("markup_bps = -1", "markup_bps"),
        ("markup_bps = 1.5", "markup_bps"),
        ("openai = 3", "openai"),
        (f"[mistral.a]\n{ROW}", "mistral"),
        (f'[openai.""]\n{ROW}', 'openai.""'),
        ("[openai.a]\ninput = 1.5\noutput = 1\ncontext = 1", 'openai."a": input'),
        ("[openai.a]\ninput = '1'\noutput = 1\ncontext = 1", 'openai."a": input'),
        ("[openai.a]\ninput = true\noutput = 1\ncontext = 1", 'openai."a": input'),
        ("[openai.a]\ninput = -1\noutput = 1\ncontext = 1", 'openai."a": input'),
        ("[openai.a]\ninput = 99_000_000_000\noutput = 1\ncontext = 1", 'openai."a": input'),
        ("[openai.a]\noutput = 1\ncontext = 1", 'openai."a": input'),
        ("[openai.a]\ninput = 1\ncontext = 1", 'openai."a": output'),
        ("[openai.a]\ninput = 1\noutput = 1", 'openai."a": context'),
        (row("inptu = 3"), "inptu"),
        (row("tiers = [{ above = 5, inptu = 3 }]"), "tiers.0"),
        (row("tiers = [{ above = 5, input = 3 }, { above = 5, input = 4 }]"), "two tiers"),
        (row("service_tiers = { flex = 5 }"), "service_tiers.flex"),
        (row("service_tiers = { flex = { bps = 0 } }"), "service_tiers.flex.bps"),
        (row("fees = { web_search = -1 }"), "fees.web_search"),
        (row("effective_from = '2026-01-01'"), "effective_from"),
        (row("aliases = ['two words']"), "aliases.0"),
        (row(f"[openai.b]\n{ROW}aliases = ['gpt-x']"), "gpt-x"),
        (f"[[openai.a]]\n{ROW}[[openai.a]]\n{ROW}", "effective_from"),
    ],
)
def test_a_wrong_card_is_refused_and_the_row_is_named(text: str, complaint: str) -> None:
    with pytest.raises(RateCardError) as refused:
        parse_rate_card(text)

    assert complaint in str(refused.value)


def test_a_card_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"# \xff")
    (tmp_path / "large").write_bytes(b"#" * (16 * 1024 * 1024 + 1))

    for name, complaint in (("absent", "absent"), ("latin", "UTF-8"), ("large", "larger")):
        with pytest.raises(RateCardError, match=complaint):
            load_rate_card(tmp_path / name)


def test_a_recorded_charge_is_priced_again_from_the_cards_text() -> None:
    card = parse_rate_card(row())
    record, price = charge_record(
        RequestId("r"),
        [UsageLine(provider="openai", model="gpt-x", input_tokens=999)],
        card=card,
        requested=card.find("gpt-x"),
        operation="responses",
        started_at=1,
    )

    assert price_from_body(record, card.body) == (price.amount, price.provider_leg)
    with pytest.raises(UnknownModel):
        price_from_body(record, f"[openai.other]\n{ROW}")


def test_published_prices_are_exact_or_left_out() -> None:
    assert microunits(Decimal("0.0875")) == 87_500
    assert microunits(Decimal(10), per=1000) == 10_000
    with pytest.raises(InexactPrice):
        microunits(Decimal("0.0000001"))


def test_an_import_keeps_the_rows_that_people_wrote_and_adds_below_them() -> None:
    written = "# mine\n" + row()
    models = [
        PublishedModel(provider="openai", name="gpt-x", row={"input": 1, "output": 1, "context": 1}),
        PublishedModel(provider="openai", name="gpt-y.1", row={"input": 5_000_000, "output": 1, "context": 1, "hidden_output": True, "aliases": ["y"]}),
        PublishedModel(provider="openai", name="gpt-z", left_out="why"),
    ]

    once, count = merge(written, models)
    twice, _ = merge(once, models)

    assert count == 1
    assert once == twice
    assert once.startswith(written.rstrip())
    assert written_rows(once).strip() == written.strip()
    assert '[openai."gpt-y.1"]\ninput = 5_000_000\noutput = 1\ncontext = 1\nhidden_output = true\naliases = ["y"]' in once
    assert parse_rate_card(once).find("gpt-x").prices.input == 10


def test_every_published_model_makes_a_row_that_can_be_read() -> None:
    for provider in ("anthropic", "openai"):
        models = [model for model in published_models(provider) if model.left_out is None]
        assert models
        for model in models:
            assert next(parse_rate_card(render(model)).all()).model == model.name


def test_the_shipped_card_is_as_published_except_where_the_specification_differs() -> None:
    # Published prices change with the date; the card is that of this day.
    found = list(differences(load_rate_card(), at=datetime(2026, 11, 22, tzinfo=UTC)))

    assert [one for one in found if not one.accepted] == []
    assert {f"{one.provider}/{one.model}" for one in found if one.provider in PROVIDERS} <= set(SPECIFIED)


def test_a_check_tells_what_it_compared() -> None:
    result = CliRunner().invoke(app, ["check", "--json"])

    found = json.loads(result.stdout)
    assert result.exit_code == (1 if found["drift"] else 0)
    assert found["models"] > 100


def test_a_card_that_differs_is_reported_with_exit_code_1(tmp_path: Path) -> None:
    card = tmp_path / "rates.toml"
    known = "input = 1\noutput = 10_000_000\ncontext = 1\nfees = { web_search = 3 }\nservice_tiers = { priority = { bps = 9 } }\n"
    card.write_text(f'[openai."gpt-4o"]\n{known}[openai.unheard-of]\n{ROW}')

    result = CliRunner().invoke(app, ["check", "--rates", str(card), "--json"])
    text = CliRunner().invoke(app, ["check", "--rates", str(card)])

    fields = {(one["model"], one["field"]) for one in json.loads(result.stdout)["drift"]}
    assert (result.exit_code, text.exit_code) == (1, 1)
    assert {("gpt-4o", "input"), ("gpt-4o", "fees.web_search"), ("gpt-4o", "service_tiers.priority"), ("unheard-of", "published")} <= fields
    assert "DRIFT" in text.stdout


def test_prices_are_shown_as_a_table_and_as_json() -> None:
    table = CliRunner().invoke(app, ["show", "claude-sonnet-4-6", "--provider", "anthropic"])
    machine = CliRunner().invoke(app, ["show", "gpt-4o", "--json"])

    assert "3.30" in table.stdout
    assert "16.50" in table.stdout
    assert json.loads(machine.stdout)["pricing"]["openai/gpt-4o"]["input_per_1m"] == 2_750_000


def test_an_import_writes_a_card_whole_or_prints_it(tmp_path: Path) -> None:
    card = tmp_path / "rates.toml"
    card.write_text(row())

    done = CliRunner().invoke(app, ["import", "--rates", str(card), "--provider", "anthropic", "--json"])
    printed = CliRunner().invoke(app, ["import", "--rates", str(card), "--provider", "anthropic", "-o", "-"])
    told = CliRunner().invoke(app, ["import", "--rates", str(card), "--provider", "openai", "-o", str(tmp_path / "other.toml")])
    again = CliRunner().invoke(app, ["import", "--rates", str(tmp_path / "other.toml"), "--provider", "anthropic"])
    wrong = CliRunner().invoke(app, ["import", "--rates", str(card), "--provider", "nobody"])
    failed = CliRunner().invoke(app, ["import", "--rates", str(card), "-o", str(tmp_path / "no" / "folder")])

    assert json.loads(done.stdout)["imported"] > 10
    assert load_rate_card(card).find("claude-opus-4-6").prices.input == 5_000_000
    assert IMPORT_MARK in printed.stdout
    assert "models imported" in told.stdout
    assert (again.exit_code, wrong.exit_code) == (0, 2)
    both = load_rate_card(tmp_path / "other.toml")
    assert (both.find("gpt-4o").provider, both.find("claude-opus-4-6").provider) == ("openai", "anthropic")
    assert isinstance(failed.exception, RateCardError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.toml", "rates.toml"]


def test_the_shipped_card_lies_in_the_package() -> None:
    assert shipped_rate_card().name == "rates.toml"
    assert load_rate_card().hash == load_rate_card(shipped_rate_card()).hash


REPORTED = '[reported.fallback]\ninput = 7\noutput = 8\n[reported.google]\ndefault = "g"\n[reported.google.g]\ninput = 30\noutput = 40\ncache_read = 3\n'


def test_a_reported_model_can_neither_be_asked_for_nor_is_it_published_as_served() -> None:
    card = parse_rate_card(row() + REPORTED)

    assert [f"{rate.provider}/{rate.model}" for rate in card.all_with_reported()] == ["openai/gpt-x", "google/g"]
    assert list(card.pricing_view()) == ["openai/gpt-x"]
    with pytest.raises(UnknownModel):
        card.find("google/g")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("reported = 3\n", "table of providers"),
        ('[reported]\n"Big Co" = {}\n', "lower-case"),
        ("[reported.google]\ndefault = 3\n", "names a model"),
        ("[reported.google.g]\noutput = 3\n", "input"),
        ("[reported.fallback]\noutput = 3\n", "fallback"),
    ],
)
def test_a_wrong_row_of_the_reported_rates_is_named(text: str, fault: str) -> None:
    with pytest.raises(RateCardError, match=fault):
        parse_rate_card((text if text.startswith("reported") else "") + row() + (text if text.startswith("[") else ""))


def test_the_shipped_card_estimates_what_the_ingest_specification_names() -> None:
    card = load_rate_card()

    for provider in ("anthropic", "openai", "google", "deepseek", "xai", "mistral", "cohere", "meta"):
        default = card.reported.defaults[provider]
        assert any(found is not None and found.known(provider, default) is not None for found in (card, card.reported.rates)), provider
