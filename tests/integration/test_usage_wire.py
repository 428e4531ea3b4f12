"""`POST /v1/usage` on the wire: connections kept alive, requests that are none, clients that leave or fall silent."""

import json
import socket
from contextlib import ExitStack

import pytest

from tests.fakes.appliance import CLIENT, Appliance

EVENT = b'{"provider":"p","cost_usd":0,"input_tokens":1}'


@pytest.fixture(scope="module")
def key(running: Appliance) -> str:
    running.run("accounts", "create", "--name", "Wire", "--tier", "pro")
    return str(running.ask("keys", "create", "--org", "Wire")["secret"])


def head(key: str, *lines: str) -> bytes:
    return "\r\n".join(["POST /v1/usage HTTP/1.1", "Host: t", f"Authorization: Bearer {key}", *lines, "", ""]).encode()


def tokens(running: Appliance, key: str) -> int:
    answer = CLIENT.post(f"{running.url}/v1/usage", json={"provider": "p", "cost_usd": 0}, headers={"Authorization": f"Bearer {key}"})
    return int(answer.json()["tracked_tokens_mtd"])


def read_answer(reader: object) -> tuple[int, dict[str, str], bytes]:
    status = int(reader.readline().split()[1])  # type: ignore[attr-defined]
    headers = {}
    while line := reader.readline().strip():  # type: ignore[attr-defined]
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers, reader.read(int(headers.get("content-length", 0)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("door", ["gateway_port", "control_port"])
def test_a_connection_serves_one_request_after_the_other_refusals_included(running: Appliance, key: str, door: str) -> None:
    with socket.create_connection(("127.0.0.1", getattr(running, door)), timeout=20) as connection:
        reader = connection.makefile("rb")
        seen = []
        for body in (EVENT, b"{not json", EVENT, b"[]", EVENT):
            connection.sendall(head(key, f"Content-Length: {len(body)}") + body)
            status, headers, answer = read_answer(reader)
            seen.append((status, headers["content-type"], "error" in json.loads(answer)))

    good, bad = (200, "application/json", False), (400, "application/json", True)
    assert seen == [good, bad, good, bad, good]


def test_requests_that_do_not_wait_for_their_answers_are_served_in_their_order(running: Appliance, key: str) -> None:
    bodies = [b'{"provider":"p","cost_usd":0,"input_tokens":%d}' % number for number in (1, 2, 4)]
    sent = [head(key, f"Content-Length: {len(body)}") + body for body in bodies]
    sent.insert(1, b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
    before = tokens(running, key)
    with socket.create_connection(("127.0.0.1", running.control_port), timeout=20) as connection:
        connection.sendall(b"".join(sent))
        reader = connection.makefile("rb")
        answers = [read_answer(reader) for _ in sent]

    assert [status for status, _, _ in answers] == [200] * 4
    assert [json.loads(answers[number][2])["tracked_tokens_mtd"] - before for number in (0, 2, 3)] == [1, 3, 7]


def test_a_client_that_asks_first_is_told_to_go_on_and_one_of_old_is_answered_and_left(running: Appliance, key: str) -> None:
    with socket.create_connection(("127.0.0.1", running.control_port), timeout=20) as connection:
        reader = connection.makefile("rb")
        connection.sendall(head(key, f"Content-Length: {len(EVENT)}", "Expect: 100-continue"))
        told = reader.readline()
        reader.readline()
        connection.sendall(EVENT)
        status, headers, _ = read_answer(reader)
        connection.sendall((head(key, f"Content-Length: {len(EVENT)}") + EVENT).replace(b"HTTP/1.1", b"HTTP/1.0"))
        old, old_headers, _ = read_answer(reader)
        end = reader.read()

    assert (told, status, "connection" in headers) == (b"HTTP/1.1 100 Continue\r\n", 200, False)
    assert (old, old_headers["connection"], end) == (200, "close", b"")


@pytest.mark.parametrize("line", ["Content-Length: abc", "Content-Length: -1", "Content-Length: 2\r\nContent-Length: 3"])
@pytest.mark.parametrize("door", ["gateway_port", "control_port"])
def test_a_length_that_is_none_is_refused_at_once(running: Appliance, key: str, line: str, door: str) -> None:
    with socket.create_connection(("127.0.0.1", getattr(running, door)), timeout=20) as connection:
        connection.sendall(head(key, line) + EVENT)
        status, headers, body = read_answer(connection.makefile("rb"))

    assert (status, headers["connection"], headers["content-type"]) == (400, "close", "application/json")
    assert json.loads(body)["error"]


def test_a_body_that_does_not_come_is_given_up_and_nothing_is_recorded(running: Appliance, key: str) -> None:
    before = tokens(running, key)
    begun = (head(key, "Content-Length: 400") + EVENT, head(key, "Transfer-Encoding: chunked") + b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
    doors = (running.gateway_port, running.control_port)
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for port in doors for _ in begun]
        for connection, beginning in zip(connections, begun * len(doors), strict=True):  # all wait at once
            connection.sendall(beginning)
        answers = [read_answer(connection.makefile("rb")) for connection in connections]
        ends = [connection.recv(1) for connection in connections]

    assert [(status, headers["connection"], json.loads(body)["error"]) for status, headers, body in answers] == [
        (408, "close", "the request body did not arrive in time")
    ] * 4
    assert ends == [b""] * 4
    assert tokens(running, key) == before


@pytest.mark.parametrize("door", ["gateway_port", "control_port"])
def test_a_slash_at_the_end_of_the_path_changes_nothing(running: Appliance, key: str, door: str) -> None:
    url, bearer = f"http://127.0.0.1:{getattr(running, door)}", {"Authorization": f"Bearer {key}"}

    answers = [CLIENT.request(method, f"{url}{path}", headers=bearer, content=EVENT) for method in ("POST", "GET") for path in ("/v1/usage", "/v1/usage/")]
    exported = [CLIENT.get(f"{url}/v1/usage/export.csv{end}", headers=bearer).status_code for end in ("", "/")]

    assert [answer.status_code for answer in answers] == [200, 200, 405, 405]
    assert exported == [200, 200]


def test_a_client_that_leaves_before_its_body_is_whole_has_reported_nothing(running: Appliance, key: str) -> None:
    before = tokens(running, key)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", running.control_port), timeout=20) as connection:
            connection.sendall(head(key, f"Content-Length: {len(EVENT) + 1}") + EVENT)

    assert tokens(running, key) == before


def test_the_books_are_whole_afterwards(running: Appliance) -> None:
    running.verify()
