"""The authority of the forward door: made once, closed to others, good for the providers' hosts alone."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from addons.authority import KEY_FILE, AuthorityError, ensure_authority, read_authority, spoken_hosts
from cli.authority import check_forward, prepare_authority
from cli.display import Display
from config.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"home": tmp_path, "providers": {"openai": {"base_url": "https://llm.example.com/openai"}}})


def test_its_key_is_closed_and_its_certificate_open(settings: Settings) -> None:
    ensure_authority(settings)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (settings.authority_folder, *settings.authority_folder.iterdir())}
    assert modes == {"ca": 0o700, KEY_FILE: 0o600, "mitmproxy-dhparam.pem": 0o644, "ca.pem": 0o644}
    assert b"PRIVATE" not in settings.certificate_file.read_bytes()


def test_its_certificate_is_ours_and_vouches_for_the_providers_hosts_alone(settings: Settings) -> None:
    authority = ensure_authority(settings)

    certificate = x509.load_pem_x509_certificate(settings.certificate_file.read_bytes())
    limits = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert "Level5" in certificate.subject.rfc4514_string()
    assert limits.critical
    assert limits.value.excluded_subtrees  # no address at all
    assert authority.hosts == set(spoken_hosts(settings)) == {"api.anthropic.com", "api.openai.com", "openrouter.ai", "llm.example.com"}
    assert authority.cannot_vouch_for(["api.openai.com", "eu.api.openai.com", "example.com"]) == ["example.com"]


def test_an_address_is_vouched_for_where_a_provider_has_one(tmp_path: Path) -> None:
    authority = ensure_authority(Settings.model_validate({"home": tmp_path, "mode": "sandbox"}))

    assert "127.0.0.1" in authority.hosts


def test_it_is_never_made_twice(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ensure_authority(settings), range(16)))
    before = settings.certificate_file.read_bytes()

    again = ensure_authority(settings.model_copy(update={"providers": Settings().providers}))

    assert set(made) == {again}
    assert settings.certificate_file.read_bytes() == before


def test_a_key_that_others_may_read_is_refused(settings: Settings) -> None:
    ensure_authority(settings)
    (settings.authority_folder / KEY_FILE).chmod(0o640)

    with pytest.raises(AuthorityError, match="chmod 600"):
        ensure_authority(settings)


@pytest.mark.parametrize("body", [b"", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
def test_what_is_no_authority_of_ours_is_refused(settings: Settings, body: bytes) -> None:
    ensure_authority(settings)
    (settings.authority_folder / KEY_FILE).write_bytes(body)

    with pytest.raises(AuthorityError, match="no authority of ours"):
        read_authority(settings.authority_folder)


def test_a_home_that_cannot_hold_it_is_named(settings: Settings) -> None:
    settings.authority_folder.write_text("a file")

    with pytest.raises(AuthorityError, match=str(settings.authority_folder)):
        ensure_authority(settings)


def test_a_provider_at_a_new_address_is_told_at_the_start_and_by_the_doctor(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_authority(settings, Display())
    moved = Settings.model_validate({"home": settings.home, "providers": {"openai": {"base_url": "https://new.example.net"}}})

    prepare_authority(moved, Display())
    [well], [finding] = check_forward(settings, running=False), check_forward(moved, running=False)

    assert well.state == "ok"
    assert (finding.state, "new.example.net" in finding.text) == ("warning", True)
    assert "cannot speak for new.example.net" in capsys.readouterr().out


def test_the_doctor_says_what_is_wrong_with_the_door(settings: Settings, tmp_path: Path) -> None:
    closed = Settings.model_validate({"home": tmp_path, "forward": {"enabled": False}})
    [off], [missing] = check_forward(closed, running=False), check_forward(settings, running=False)
    ensure_authority(settings)
    silent = settings.model_copy(update={"forward": settings.forward.model_copy(update={"port": 9})})
    [unanswered] = check_forward(silent, running=True)
    (settings.authority_folder / KEY_FILE).chmod(0o644)
    [open_key] = check_forward(settings, running=False)

    assert [one.state for one in (off, missing, unanswered, open_key)] == ["ok", "warning", "fault", "fault"]
