"""What pages are made of: figures in words, charts, and the time that a reader asks for."""

from datetime import UTC, datetime

import pytest

from control.web.charts import Bucket, Line, bar_chart, percent_of, round_up, share_bar
from control.web.chosen_period import buckets_of, read_chosen
from control.web.filters import compact, duration, percent, signed_usdc_column, usdc, usdc_column
from ledger.figure_values import Dimension

NOW = datetime(2026, 11, 22, 19, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0.00"), (1, "0.000001"), (1_500_000, "1.50"), (-8_700, "−0.0087"), (8_999_999_999_999_999, "8,999,999,999.999999")]
)
def test_an_amount_is_written_exactly_and_never_longer_than_it_must_be(amount: int, text: str) -> None:
    assert usdc(amount) == text


def test_amounts_of_a_column_have_six_decimals_each() -> None:
    assert usdc_column(8_700) == '0.0087<span class="zeros">00</span>'
    assert usdc_column(515) == "0.000515"
    assert signed_usdc_column(5_000_000) == '+5.00<span class="zeros">0000</span>'


def test_numbers_and_lengths_of_time_are_cut_to_what_can_be_read() -> None:
    assert [compact(number) for number in (999, 1_250, 200_000, 1_000_000)] == ["999", "1.2\u202fk", "200\u202fk", "1\u202fM"]
    assert [duration(length) for length in (850, 1_250, 200_000, 7_500_000, 400_000_000)] == [
        "850\u202fms", "1.2\u202fs", "3\u202fmin 20\u202fs", "2\u202fh 5\u202fmin", "4 days",
    ]  # fmt: skip
    assert (percent(1, 3), percent(1, 0)) == ("33.3\u202f%", "–")


@pytest.mark.parametrize("value", [0, 1, 2, 3, 7, 10, 11, 99, 101, 123_456, 10**15 + 1])
def test_a_scale_ends_above_what_it_shows_and_its_half_is_whole(value: int) -> None:
    top = round_up(value)

    assert top >= max(value, 2)
    assert top % 2 == 0
    assert top <= max(10 * value, 2)


def test_a_chart_shows_what_it_is_given_and_escapes_what_others_wrote() -> None:
    buckets = [Bucket(label=f"2026-11-{day}", mark="<b>") for day in (21, 22)]
    chart = bar_chart("spend", buckets, [Line(label="a", values=(3, -5)), Line(label="b", values=(1, 2), tone="2")], title="<script>", write=str)

    assert chart.drawing.count('class="series-') == 3  # what is below zero is not drawn
    assert "<script>" not in chart.drawing
    assert "<b>" not in chart.drawing
    assert (chart.sum_at(0), chart.sum_at(1)) == (4, -3)
    assert chart.scale == (4, 2, 0)


def test_charts_of_nothing_are_drawn_too() -> None:
    assert "<svg" in bar_chart("none", [], [], title="nothing", write=str).drawing
    assert "<svg" in bar_chart("none", [Bucket(label="now", mark="now")], [Line(label="a", values=(0,))], title="nothing", write=str).drawing


def test_a_share_is_never_longer_than_the_whole() -> None:
    assert 'width="100.000%"' in share_bar(7, 3)
    assert percent_of(12_345) == "12.345%"


def test_a_period_has_bars_of_its_own_clock() -> None:
    chosen = read_chosen({"range": "7d", "zone": "Asia/Tokyo", "by": "workspace"}, NOW)
    buckets = buckets_of(chosen.period)

    assert chosen.by is Dimension.WORKSPACE
    assert (len(buckets), buckets[-1].label, buckets[-1].mark) == (7, "2026-11-23", "23 Nov")  # it is the 23rd there
    assert chosen.query(range="24h") == "?range=24h&by=workspace&zone=Asia%2FTokyo"
    assert len(buckets_of(read_chosen({"range": "24h"}, NOW).period)) == 24
    for hour in range(24):  # the last of them ends at midnight
        assert len(buckets_of(read_chosen({"range": "7d"}, NOW.replace(hour=hour)).period)) == 7


@pytest.mark.parametrize(
    "query",
    [
        {"range": "custom"},
        {"range": "custom", "from": "2026-02-30", "to": "2026-03-01"},
        {"range": "custom", "from": "2026-03-02", "to": "2026-03-01"},
        {"range": "custom", "from": "2016-01-01", "to": "2026-03-01"},
        {"range": "custom", "from": "0001-01-01", "to": "9999-12-31"},
        {"range": "custom", "from": "2027-01-01", "to": "2027-01-02"},
        {"zone": "Mars/Phobos"},
        {"zone": "../../etc/passwd"},
        {"zone": "x" * 1000},
    ],
)
def test_what_cannot_be_shown_is_answered_with_the_usual_and_a_word_on_why(query: dict[str, str]) -> None:
    chosen = read_chosen(query, NOW)

    assert chosen.fault
    assert (chosen.name, chosen.zone) == ("7d", "UTC")


def test_days_of_ones_own_choice_are_whole_and_the_last_one_is_in() -> None:
    chosen = read_chosen({"range": "custom", "from": "2026-11-01", "to": "2026-11-10"}, NOW)

    assert not chosen.fault
    assert [bucket.label for bucket in buckets_of(chosen.period)][::9] == ["2026-11-01", "2026-11-10"]


def test_years_of_ones_own_choice_have_bars_of_weeks_or_months_whose_words_say_so() -> None:
    weeks = read_chosen({"range": "custom", "from": "2025-01-01", "to": "2026-11-22"}, NOW)
    months = read_chosen({"range": "custom", "from": "2017-01-01", "to": "2026-11-22", "zone": "Asia/Tokyo"}, NOW)

    assert (weeks.fault, months.fault) == ("", "")
    assert [(bucket.label, bucket.mark) for bucket in buckets_of(weeks.period)][:2] == [
        ("week of 2024-12-30", "30 Dec 2024"), ("week of 2025-01-06", "6 Jan 2025"),
    ]  # fmt: skip
    assert [(bucket.label, bucket.mark) for bucket in buckets_of(months.period)][:2] == [("2017-01", "Jan 2017"), ("2017-02", "Feb 2017")]
    assert len(buckets_of(months.period)) == 119
