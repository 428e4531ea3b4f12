"""When a provider is left alone, and when it is tried again."""

from addons.circuit import FAILURES_MAX, PAUSE_SECONDS, PAUSE_SECONDS_MAX, Circuit


def opened(at: float) -> Circuit:
    circuit = Circuit()
    for _ in range(FAILURES_MAX):
        assert circuit.lets_through(at)
        circuit.failed(at)
    return circuit


def test_several_failures_in_a_row_open_it_and_a_success_among_them_does_not() -> None:
    circuit = Circuit()
    for _ in range(FAILURES_MAX - 1):
        circuit.failed(0.0)
    circuit.succeeded()
    circuit.failed(0.0)

    assert not circuit.is_open
    assert opened(0.0).is_open


def test_an_open_one_lets_nothing_through_until_its_pause_is_over_and_then_one() -> None:
    circuit = opened(10.0)

    assert not circuit.lets_through(10.0 + PAUSE_SECONDS / 2)
    assert circuit.lets_through(10.0 + PAUSE_SECONDS)
    assert not circuit.lets_through(10.0 + PAUSE_SECONDS)


def test_the_one_that_tries_closes_it_or_doubles_its_pause_up_to_a_most() -> None:
    circuit, now = opened(0.0), PAUSE_SECONDS
    for _ in range(10):
        assert circuit.lets_through(now)
        circuit.failed(now)
        assert not circuit.lets_through(now + PAUSE_SECONDS)
        now += PAUSE_SECONDS_MAX
    assert circuit.lets_through(now)
    circuit.succeeded()

    assert not circuit.is_open
    assert circuit.lets_through(now)
    assert circuit.lets_through(now)


def test_what_began_before_it_opened_does_not_lengthen_the_pause() -> None:
    circuit = opened(0.0)
    for _ in range(100):
        circuit.failed(0.5)

    assert circuit.lets_through(PAUSE_SECONDS)


def test_one_that_tries_and_is_given_up_leaves_its_place_to_the_next() -> None:
    circuit = opened(0.0)
    assert circuit.lets_through(PAUSE_SECONDS)
    circuit.abandoned()

    assert circuit.lets_through(PAUSE_SECONDS)
