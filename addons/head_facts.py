"""What a request's head tells besides its target and its length, found out once for all heads that are alike."""

from mitmproxy import http

from addons.checked_headers import found_in
from addons.client_families import family_of
from addons.headers import bearer_in, fault_in, wants_upgrade
from ledger.values import value


@value
class HeadFacts:
    """What the fields of a head say. `fault` is why they are refused; `bearer` the api_token that they carry."""

    fault: str | None
    family: str
    bearer: str | None
    wants_upgrade: bool
    wants_comment: bool


def facts_of(headers: http.Headers) -> HeadFacts:
    """Return what these fields say."""
    return found_in(headers, _read)


def _read(headers: http.Headers) -> HeadFacts:
    return HeadFacts(
        fault=fault_in(headers),
        family=family_of(headers),
        bearer=bearer_in(headers),
        wants_upgrade=wants_upgrade(headers),
        wants_comment=headers.get("x-level5-events", "").strip() == "1",
    )
