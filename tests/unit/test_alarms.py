"""What alarms look at is there before anything has happened, so that the first event makes it rise."""

from prometheus_client import REGISTRY

from addons.alarms import show_alarms
from addons.upstream import read_providers
from config.settings import Settings


def test_the_series_of_alarms_begin_at_nought_for_every_provider_that_has_a_key() -> None:
    settings = Settings.model_validate({"providers": {"openai": {"api_key": "key-of-a-test"}}})

    show_alarms(read_providers(settings.providers, settings.gateway).values())

    refused = {"provider": "openai", "reason": "key_refused"}
    assert REGISTRY.get_sample_value("level5_operator_alarms_total", refused) is not None
    assert REGISTRY.get_sample_value("level5_unpriced_answers_total", {"provider": "openai"}) is not None
    assert REGISTRY.get_sample_value("level5_estimated_charges_total", {"reason": "unreadable"}) is not None
