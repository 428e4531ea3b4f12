"""The forward door's certificate authority, as commands see it: made before the workers start, and looked at by the doctor."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cli.display import Display
from cli.findings import Finding
from config.settings import Settings, reachable_host

RENEW_BEFORE = timedelta(days=30)
CONNECT_SECONDS_MAX = 2.0


def prepare_authority(settings: Settings, display: Display) -> None:
    """Make the authority if there is none, and say what it cannot do any more.

    Raises:
        SettingsError: it cannot be made or read.
    """
    if not settings.forward.enabled:
        return
    from addons.authority import ensure_authority, spoken_hosts  # it loads what no other command needs

    authority = ensure_authority(settings)
    if missing := authority.cannot_vouch_for(spoken_hosts(settings)):
        display.warn(f"the forward proxy cannot speak for {', '.join(missing)}: {_advice(settings)}")
    if authority.expires_at - datetime.now(UTC) < RENEW_BEFORE:
        display.warn(f"the certificate of the forward proxy ends on {authority.expires_at:%Y-%m-%d}: {_advice(settings)}")


def check_forward(settings: Settings, *, running: bool) -> Iterator[Finding]:
    """Check the forward door: its authority, what that may vouch for, and that somebody answers."""
    if not settings.forward.enabled:
        yield Finding("forward proxy", "ok", "off (LEVEL5_FORWARD__ENABLED)")
        return
    from addons.authority import AuthorityError, read_authority, spoken_hosts  # as above

    try:
        authority = read_authority(settings.authority_folder)
    except AuthorityError as error:
        made = settings.authority_folder.exists()
        yield Finding("forward proxy", "fault" if made else "warning", str(error) if made else "has no certificate authority yet; the first start makes it")
        return
    missing = authority.cannot_vouch_for(spoken_hosts(settings))
    left = authority.expires_at - datetime.now(UTC)
    if missing or left < RENEW_BEFORE:
        fault = f"it cannot speak for {', '.join(missing)}" if missing else f"its certificate ends on {authority.expires_at:%Y-%m-%d}"
        yield Finding("forward proxy", "fault" if left < timedelta() else "warning", f"{fault}; {_advice(settings)}")
    elif running and not _answers(settings):
        yield Finding("forward proxy", "fault", f"nothing answers on {settings.forward.host} port {settings.forward.port}")
    else:
        yield Finding("forward proxy", "ok", f"certificate {settings.certificate_file}, until {authority.expires_at:%Y-%m-%d}")


def _answers(settings: Settings) -> bool:
    host = reachable_host(settings.forward.host).strip("[]")
    try:
        with socket.create_connection((host, settings.forward.port), timeout=CONNECT_SECONDS_MAX):
            return True
    except OSError:
        return False


def _advice(settings: Settings) -> str:
    return f"remove {settings.authority_folder} and start again for a new one, which all clients then have to be given"
