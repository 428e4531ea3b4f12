"""The figures of the measurement of deposits are worked out as they are described."""

import pytest

from bench.deposit_stand import Finality
from bench.deposits import Figure, as_table, main, quantile


def test_a_slot_is_final_from_the_first_root_that_covers_it() -> None:
    finality = Finality()
    for root, at in ((3, 1.0), (5, 2.0), (5, 3.0), (9, 4.0)):
        finality.note(root, at)

    assert [finality.of(slot) for slot in (2, 3, 4, 5, 6, 9, 10)] == [1.0, 1.0, 2.0, 2.0, 4.0, 4.0, None]


def test_quantiles_are_values_that_were_measured_and_nothing_has_none() -> None:
    hundred = [float(number) for number in range(1, 101)]

    assert (quantile(hundred, 0.5), quantile(hundred, 0.99), quantile(hundred, 1.0)) == (50.0, 99.0, 100.0)
    assert quantile([2.0], 0.99) == 2.0
    assert quantile([], 0.5) == 0.0


def test_each_scenario_is_a_line_of_the_table() -> None:
    figure = Figure(
        scenario="burst of 300", providers=3, deposits=300, per_second=101.25, lag_p50_seconds=1.5, lag_p99_seconds=2.5, lag_max_seconds=2.75,
        calls=366, calls_per_deposit=1.22, watcher_cpu_ms_per_transaction=6.25, transactions_per_second=101.25,
    )  # fmt: skip

    head, line = as_table([figure]).splitlines()

    assert len(head) == len(line)
    assert line.split() == ["burst", "of", "300", "3", "300", "101.2", "1.50", "2.50", "2.75", "366", "1.2", "6.2", "101"]


@pytest.mark.parametrize("flags", [["--providers", "0"], ["--providers", "4"], ["--providers", "x"], ["--dust", "0"], ["--requests-per-second", "0"]])
def test_flags_that_make_no_sense_are_refused(flags: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(flags)
