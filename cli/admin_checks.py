"""What the doctor asks about the operator's console: where it can be opened, and whether its issuer answers."""

import asyncio
from urllib.parse import urlsplit

from cli.findings import Finding
from config.sections import is_loopback_host
from config.settings import Settings

CALLBACK_PATH = "/admin/oidc/callback"


def check_console(settings: Settings) -> Finding:
    """Check where the console answers, and the issuer that operators sign in by."""
    public = urlsplit(settings.origin)
    is_shown = public.scheme == "https" or is_loopback_host(public.hostname or "")
    if not settings.admin.oidc.is_on:
        where = "" if is_shown else f", on this machine alone: {settings.origin} is not encrypted"
        return Finding("console", "ok", f"opened by one-time links (level5 admin login){where}")
    if not is_shown:
        return Finding("console", "fault", f"nobody can sign in by {settings.admin.oidc.issuer}: set LEVEL5_PUBLIC_URL to an https:// address")
    return asyncio.run(ask_issuer(settings))


async def ask_issuer(settings: Settings) -> Finding:
    """Read what the issuer publishes, as a sign-in does."""
    from control.console.provider import OidcProvider, ProviderAway  # it takes longer to load than the other checks to run

    oidc, callback = settings.admin.oidc, settings.origin + CALLBACK_PATH
    try:
        keys = await OidcProvider(oidc, redirect_uri=callback).check()
    except ProviderAway as error:
        return Finding("console", "fault", f"{oidc.issuer} does not answer as it should: {error}")
    text = f"{oidc.issuer} answers and publishes {keys} keys; {len(oidc.allowed)} addresses and domains are allowed; it must know the redirect URI {callback}"
    return Finding("console", "ok" if keys else "fault", text)
