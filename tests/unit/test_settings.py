"""Settings: who wins, what is refused, and that nothing secret is shown."""

import os
from pathlib import Path

import pytest

from config.settings import Settings, SettingsError, default_home, load_settings, settings_environment, without_settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "level5.toml"


def refusal(environment: dict[str, str] | None = None, config: Path | None = None, flags: dict[str, object] | None = None) -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings(flags, config, environment=environment or {})
    return str(refused.value)


def test_without_anything_the_defaults_hold() -> None:
    settings = load_settings(environment={})

    assert settings == Settings()
    assert (settings.mode, settings.gateway.port, settings.home) == ("real", 8402, default_home())


def test_a_flag_wins_over_the_environment_which_wins_over_the_file(config: Path) -> None:
    config.write_text("[gateway]\nport = 1001\nworkers = 5\nhost = '::1'\n")

    settings = load_settings(
        {"gateway.port": 1003, "home": None}, environment={"LEVEL5_CONFIG": str(config), "LEVEL5_GATEWAY__PORT": "1002", "LEVEL5_GATEWAY__WORKERS": "6"}
    )

    assert (settings.gateway.port, settings.gateway.workers, settings.gateway.host) == (1003, 6, "::1")


def test_a_given_file_wins_over_the_one_the_environment_names(config: Path, tmp_path: Path) -> None:
    config.write_text("log_level = 'debug'\n")

    assert load_settings(None, config, environment={"LEVEL5_CONFIG": str(tmp_path / "absent.toml")}).log_level == "debug"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("DATABASE_URL", lambda s: s.database_url),
        ("REDIS_URL", lambda s: s.redis_url),
        ("ANTHROPIC_API_KEY", lambda s: s.providers.anthropic.api_key),
        ("OPENAI_API_KEY", lambda s: s.providers.openai.api_key),
        ("OPENROUTER_API_KEY", lambda s: s.providers.openrouter.api_key),
    ],
)
def test_the_common_name_of_a_setting_is_honoured(name: str, read) -> None:
    assert read(load_settings(environment={name: "operator-value"})).get_secret_value() == "operator-value"


def test_our_own_name_wins_over_the_common_one() -> None:
    settings = load_settings(environment={"DATABASE_URL": "theirs", "LEVEL5_DATABASE_URL": "ours"})

    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "ours"


def test_an_empty_value_counts_as_not_given() -> None:
    assert load_settings(environment={"LEVEL5_DATABASE_URL": "", "LEVEL5_GATEWAY__PORT": ""}) == Settings()


def test_a_secret_can_be_read_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("operator-key-anthropic\n")

    for name in ("LEVEL5_PROVIDERS__ANTHROPIC__API_KEY_FILE", "ANTHROPIC_API_KEY_FILE"):
        key = load_settings(environment={name: str(secret)}).providers.anthropic.api_key
        assert key is not None
        assert key.get_secret_value() == "operator-key-anthropic"


def test_a_secret_file_named_in_the_configuration_lies_beside_it(config: Path) -> None:
    config.write_text("[providers.openai]\napi_key_file = 'openai.key'\n")
    (config.parent / "openai.key").write_text("operator-key-openai")

    key = load_settings(None, config, environment={}).providers.openai.api_key

    assert key is not None
    assert key.get_secret_value() == "operator-key-openai"


def test_a_secret_given_twice_is_refused(config: Path, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("operator-key")
    config.write_text(f"database_url = 'x'\ndatabase_url_file = '{secret}'\n")

    assert "are both set" in refusal({"LEVEL5_DATABASE_URL": "x", "LEVEL5_DATABASE_URL_FILE": str(secret)})
    assert "are both set" in refusal(config=config)


def test_a_secret_file_that_cannot_be_read_or_is_empty_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")

    assert "LEVEL5_REDIS_URL_FILE: cannot read" in refusal({"LEVEL5_REDIS_URL_FILE": str(tmp_path / "absent")})
    assert "is empty" in refusal({"LEVEL5_REDIS_URL_FILE": str(empty)})


def test_an_unknown_name_in_the_environment_is_refused_with_near_matches() -> None:
    text = refusal({"LEVEL5_GATEWAY__PROT": "1"})

    assert "LEVEL5_GATEWAY__PROT in the environment is not a setting" in text
    assert "LEVEL5_GATEWAY__PORT" in text


def test_an_unknown_key_in_the_file_is_refused_with_near_matches(config: Path) -> None:
    config.write_text("[gatway]\nport = 1\n")
    assert "gatway is not a setting; did you mean gateway" in refusal(config=config)

    config.write_text("[providers.openai]\napi_kye = 'x'\n")
    assert "providers.openai.api_kye is not a setting; did you mean providers.openai.api_key" in refusal(config=config)


def test_a_file_that_is_absent_or_not_toml_is_refused(config: Path) -> None:
    assert "cannot read the configuration" in refusal(config=config)

    config.write_text("gateway = ")
    assert "is not valid TOML" in refusal(config=config)


def test_a_wrong_value_is_named_with_both_its_names() -> None:
    text = refusal({"LEVEL5_GATEWAY__PORT": "70000", "LEVEL5_LEDGER__ON_EXHAUSTED": "panic"})

    assert "gateway.port (LEVEL5_GATEWAY__PORT): Input should be less than or equal to 65535" in text
    assert "ledger.on_exhausted (LEVEL5_LEDGER__ON_EXHAUSTED)" in text


def test_a_wrong_secret_is_never_repeated() -> None:
    text = refusal({"ANTHROPIC_API_KEY": "operator key with blanks"})

    assert "providers.anthropic.api_key" in text
    assert "with blanks" not in text.replace("without blanks", "")
    assert "operator-key" not in repr(load_settings(environment={"ANTHROPIC_API_KEY": "operator-key"}))


@pytest.mark.parametrize("url", ["ftp://a", "https://a b", "https://user:secret@host", "https://host/?query", "api.anthropic.com"])
def test_a_provider_address_that_is_no_http_origin_is_refused(url: str) -> None:
    assert "must be an http(s) address" in refusal({"LEVEL5_PROVIDERS__OPENAI__BASE_URL": url})


def test_the_registration_limit_is_a_setting() -> None:
    assert load_settings(environment={"LEVEL5_REGISTER__RATE_PER_MINUTE": "0"}).register_.rate_per_minute == 0


def test_trusted_proxies_are_networks_separated_by_commas(config: Path) -> None:
    assert load_settings(environment={"LEVEL5_TRUSTED_PROXIES": "10.1.2.3/8, ::1"}).trusted_proxies == ("10.0.0.0/8", "::1/128")
    config.write_text("trusted_proxies = ['192.0.2.1']")
    assert load_settings(None, config, environment={}).trusted_proxies == ("192.0.2.1/32",)
    assert "must be networks" in refusal({"LEVEL5_TRUSTED_PROXIES": "nearby"})


def test_tunnelled_hosts_are_full_names_separated_by_commas() -> None:
    settings = load_settings(environment={"LEVEL5_FORWARD__TUNNEL": "API.github.com, example.com:8443"})

    assert settings.forward.tunnel == ("api.github.com", "example.com:8443")
    assert load_settings(environment=settings_environment(settings)) == settings


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::1]", "localhost", "*.example.com", "example.com.", "a..com", "x.com:0", "x.com:70000"]
)
def test_addresses_local_names_and_patterns_cannot_be_tunnelled(name: str) -> None:
    assert "LEVEL5_FORWARD__TUNNEL" in refusal({"LEVEL5_FORWARD__TUNNEL": name})


def test_the_public_address_loses_its_last_slash() -> None:
    assert load_settings(environment={"LEVEL5_PUBLIC_URL": "https://llm.example.com/"}).origin == "https://llm.example.com"
    assert load_settings(environment={}).origin == "http://127.0.0.1:8402"
    assert "public_url" in refusal({"LEVEL5_PUBLIC_URL": "llm.example.com"})


def test_the_sandbox_keeps_its_state_apart_and_reaches_only_itself(tmp_path: Path) -> None:
    settings = load_settings({"mode": "sandbox", "home": tmp_path, "sandbox.provider_port": 9105}, environment={})

    assert settings.home == tmp_path / "sandbox"
    assert settings.providers.anthropic.base_url == "http://127.0.0.1:9105/anthropic"
    assert settings.providers.openrouter.api_key is not None


def test_the_sandbox_may_be_pointed_at_another_fake_on_this_machine() -> None:
    settings = load_settings({"mode": "sandbox"}, environment={"LEVEL5_PROVIDERS__OPENAI__BASE_URL": "http://localhost:9999"})

    assert settings.providers.openai.base_url == "http://localhost:9999"
    assert settings.providers.openai.api_key is not None


def test_the_sandbox_refuses_a_real_provider_and_a_real_key() -> None:
    real = {"LEVEL5_MODE": "sandbox", "LEVEL5_PROVIDERS__OPENAI__BASE_URL": "https://api.openai.com"}
    key = {"LEVEL5_MODE": "sandbox", "LEVEL5_PROVIDERS__OPENAI__API_KEY": "sk-" + "x" * 8}

    assert "sandbox mode reaches simulated providers only" in refusal(real)
    assert "sandbox mode refuses real keys" in refusal(key)
    assert "xxxxxxxx" not in refusal(key)


def test_the_sandbox_does_not_take_an_agents_own_token_for_an_operators_key() -> None:
    assert load_settings({"mode": "sandbox"}, environment={"ANTHROPIC_API_KEY": "sk-" + "x" * 8}) == Settings(mode="sandbox")


@pytest.mark.parametrize("mode", ["real", "sandbox"])
def test_settings_survive_the_way_through_the_environment_of_a_child(mode: str, tmp_path: Path) -> None:
    settings = load_settings(
        {"mode": mode, "home": tmp_path, "gateway.workers": 3, "database_url": "postgresql://level5@/level5?host=/run"},
        environment={
            "LEVEL5_TRUSTED_PROXIES": "10.0.0.0/8,192.0.2.0/24",
            "LEVEL5_REGISTER__RATE_PER_MINUTE": "0",
            "LEVEL5_PROVIDERS__OPENAI__INCLUDE_USAGE": "false",
            "LEVEL5_PUBLIC_URL": "https://llm.example.com",
        },
    )

    assert load_settings(environment=settings_environment(settings)) == settings


def test_a_childs_environment_begins_without_any_setting() -> None:
    assert without_settings({"PATH": "/bin", "LEVEL5_HOME": "x", "REDIS_URL": "y", "OPENAI_API_KEY_FILE": "z"}) == {"PATH": "/bin"}


def test_roots_home_is_one_that_the_database_can_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_home() == Path("/var/lib/level5")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_home() == Path.home() / ".level5"


def test_a_relative_path_is_taken_from_the_folder_of_the_one_who_gave_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    assert load_settings({"rates": "my.toml", "home": "here"}, environment={}).rates == tmp_path / "my.toml"


def test_a_providers_keys_are_the_single_one_and_then_the_others_each_once() -> None:
    environment = {"LEVEL5_PROVIDERS__OPENAI__API_KEY": "one", "LEVEL5_PROVIDERS__OPENAI__API_KEYS": "two, one ,three,"}

    settings = load_settings(environment=environment)

    assert settings.providers.openai.keys == ("one", "two", "three")
    assert settings.providers.anthropic.keys == ()
    assert "two" not in repr(settings.providers.openai)
    assert load_settings(environment=settings_environment(settings)) == settings


def test_several_keys_alone_switch_a_provider_on() -> None:
    assert load_settings(environment={"LEVEL5_PROVIDERS__OPENAI__API_KEYS": "one"}).providers.openai.keys == ("one",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI__API_KEYS", "one,t wo"),
        ("OPENAI__API_KEYS", ",".join(str(number) for number in range(17))),
        ("OPENAI__RETRIES", "11"),
        ("OPENAI__RETRY_PAUSE_SECONDS_MAX", "31"),
        ("OPENAI__FIRST_BYTE_SECONDS_MAX", "0"),
        ("OPENAI__FALLBACK", "anthropic"),
        ("OPENROUTER__FALLBACK", "openai"),
    ],
)
def test_resilience_has_bounds(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name.rpartition("__")[2].lower() if name != "OPENROUTER__FALLBACK" else "not a setting"):
        load_settings(environment={f"LEVEL5_PROVIDERS__{name}": value})


def test_a_sandbox_refuses_a_real_key_among_several() -> None:
    with pytest.raises(SettingsError, match="real key"):
        load_settings(environment={"LEVEL5_MODE": "sandbox", "LEVEL5_PROVIDERS__OPENAI__API_KEYS": "sandbox-one," + "sk-" + "x"})
