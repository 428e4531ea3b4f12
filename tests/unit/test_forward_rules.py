"""What the forward door lets through, decided without a socket."""

import base64

import pytest

from addons.forward import Map, Tunnel, is_public, read_credentials, read_place
from addons.upstream import read_providers
from config.settings import Settings

TOKEN = "l5_1_abc"


def known(**providers: object) -> Map:
    settings = Settings.model_validate({"providers": providers})
    return Map(read_providers(settings.providers, settings.gateway).values(), ("files.example.com", "example.com:8443", "api.openai.com"))


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("api.anthropic.com:443", ("api.anthropic.com", 443)),
        ("API.Anthropic.COM:443", ("api.anthropic.com", 443)),
        ("[::1]:8405", ("::1", 8405)),
        ("[0:0:0:0:0:0:0:1]:443", ("::1", 443)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
    ],
)
def test_a_place_is_read_in_one_spelling(written: str, place: tuple[str, int]) -> None:
    assert read_place(written) == place


@pytest.mark.parametrize(
    "written", ["", "x", "x:", "x:0", "x:080", "x:65536", "x:1:2", "a b:443", "u@x:443", "[x]:443", "[::1%lo]:443", "[:::]:443", "x:443\n", "ｘ:443", "x/:443"]
)
def test_what_is_not_plainly_a_place_is_none(written: str) -> None:
    assert read_place(written) is None


def test_a_provider_is_found_under_its_own_name_and_its_configured_address() -> None:
    places = known(anthropic={"base_url": "http://127.0.0.1:9/anthropic"}, openai={"base_url": "http://127.0.0.1:9/openai"})

    assert places.bases(("api.anthropic.com", 443)) == {"anthropic": ""}
    assert places.bases(("openrouter.ai", 443)) == {"openrouter": "/api"}
    assert places.bases(("127.0.0.1", 9)) == {"anthropic": "/anthropic", "openai": "/openai"}
    assert places.bases(("api.anthropic.com", 80)) is None


def test_only_listed_places_are_passed_on_unread_and_never_a_provider() -> None:
    places = known()

    assert [places.is_tunnelled(place) for place in (("files.example.com", 443), ("example.com", 8443), ("example.com", 443))] == [True, True, False]
    assert not places.is_tunnelled(("api.openai.com", 443))
    assert "Allowed: api.anthropic.com, api.openai.com, openrouter.ai, example.com:8443, files.example.com." in places.not_allowed().text


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (f"Basic {base64.b64encode(f'{TOKEN}:'.encode()).decode()}", TOKEN),
        (f"basic {base64.b64encode(TOKEN.encode()).decode()}", TOKEN),
        (f"Basic {base64.b64encode(f':{TOKEN}'.encode()).decode()}", TOKEN),
        (f"Basic {base64.b64encode(f'user:{TOKEN}'.encode()).decode()}", TOKEN),
        (f"BEARER  {TOKEN}", TOKEN),
        (f"Basic {base64.b64encode(b'user:password').decode()}", None),
        ("Basic !!!", None),
        ("Basic //79", None),
        ("Bearer sk-mine", None),
        (f"Digest {TOKEN}", None),
        ("", None),
    ],
)
def test_a_token_is_read_from_any_form_of_proxy_credentials(header: str, token: str | None) -> None:
    assert read_credentials(header) == token


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"])
def test_a_public_address_may_be_dialled(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "192.0.2.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "localhost", "fe80::1%eth0", "",
    ],
)  # fmt: skip
def test_no_address_of_this_machine_its_network_or_its_cloud_may_be_dialled(address: str) -> None:
    assert not is_public(address)


def test_a_request_may_name_its_tunnel_with_and_without_the_usual_port() -> None:
    assert Tunnel(host="api.openai.com", port=443, bases={}).authorities == ("api.openai.com:443", "api.openai.com")
    assert Tunnel(host="::1", port=8405, bases={}).authorities == ("[::1]:8405",)
    assert TOKEN not in repr(Tunnel(host="x", port=1, bases={}, token_text=TOKEN))
