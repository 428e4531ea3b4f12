"""Whose registrations are counted together, and that nobody can pass for another."""

from ipaddress import ip_address

import pytest
from starlette.requests import Request

from control.peers import client_address, limited_network, peer_address, read_networks

PROXIES = read_networks(["10.0.0.0/8", "2001:db8:ffff::/48"])


def a_request(client: str | None, **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "client": (client, 1) if client else None, "headers": raw})


def test_without_the_gateways_key_the_socket_says_who_calls() -> None:
    request = a_request("192.0.2.1", x_level5_peer="198.51.100.7")

    assert peer_address(request, "internal") == ip_address("192.0.2.1")


@pytest.mark.parametrize("key", ["wrong", "", "interna", "internal2", "é"])
def test_a_peer_handed_on_with_a_wrong_key_is_not_believed(key: str) -> None:
    request = a_request("192.0.2.1", x_level5_peer="198.51.100.7", x_level5_peer_key=key)

    assert peer_address(request, "internal") == ip_address("192.0.2.1")


@pytest.mark.parametrize("internal", [None, ""])
def test_without_a_key_of_our_own_no_peer_is_believed(internal: str | None) -> None:
    request = a_request("192.0.2.1", x_level5_peer="198.51.100.7", x_level5_peer_key="")

    assert peer_address(request, internal) == ip_address("192.0.2.1")


def test_a_peer_handed_on_by_the_gateway_is_the_caller() -> None:
    request = a_request("127.0.0.1", x_level5_peer="198.51.100.7", x_level5_peer_key="internal")

    assert peer_address(request, "internal") == ip_address("198.51.100.7")


def test_a_request_without_any_address_is_counted_as_unknown() -> None:
    assert limited_network(peer_address(a_request(None), "internal")) == "unknown"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),  # not a proxy of ours: its word counts nothing
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),  # the client wrote the first one itself
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7"], "198.51.100.7"),  # two lines are one list
        ("10.0.0.1", ["203.0.113.9, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("10.0.0.1", ['"[2001:db8::1]:4711"'], "2001:db8::1"),
        ("2001:db8:ffff::1", ["2001:db8:1::1"], "2001:db8:1::1"),
    ],
)
def test_only_what_trusted_proxies_appended_is_believed(peer: str, forwarded: list[str], expected: str) -> None:
    assert client_address(ip_address(peer), forwarded, trusted=PROXIES) == ip_address(expected)


def test_an_endless_list_of_forwarded_addresses_is_not_walked() -> None:
    address = client_address(ip_address("10.0.0.1"), [",".join(["10.0.0.9"] * 100_000)], trusted=PROXIES)

    assert address == ip_address("10.0.0.9")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
    ],
)
def test_one_limit_holds_for_an_ipv4_address_or_an_ipv6_customer(address: str, network: str) -> None:
    assert limited_network(ip_address(address)) == network


def test_ipv4_inside_ipv6_counts_as_the_ipv4_address() -> None:
    assert limited_network(peer_address(a_request("::ffff:192.0.2.1"), None)) == "192.0.2.1"
