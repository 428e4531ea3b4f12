"""How the sandbox misbehaves, seen from a bare socket."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from sandbox.server import Sandbox, run_sandbox

RECORDINGS = Path(__file__).parents[1] / "recordings"
SILENCE_SECONDS = 0.2


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with run_sandbox(recordings=RECORDINGS) as running:
        yield running


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sandbox.url, headers={"x-api-key": "sandbox-operator-key"}, timeout=5) as http:
        yield http


def encode_request(script: str, *, stream: bool, headers: str = "") -> bytes:
    body = json.dumps({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}).encode()
    head = f"POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: sandbox-operator-key\r\nx-sandbox-script: {script}\r\n{headers}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def exchange(sandbox: Sandbox, script: str, *, stream: bool = True, headers: str = "") -> tuple[bytes, str]:
    """Send one request and read until the connection ends or falls silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
    writer.write(encode_request(script, stream=stream, headers=headers))
    received = b""
    try:
        while True:
            data = await asyncio.wait_for(reader.read(65536), SILENCE_SECONDS)
            received += data
            if not data:
                return received, "closed"
    except TimeoutError:
        return received, "silent"
    except ConnectionResetError:
        return received, "reset"
    finally:
        writer.close()


async def test_every_answer_says_that_it_is_simulated(client: httpx.AsyncClient) -> None:
    for path in ("/anthropic/v1/models", "/openai/v1/models", "/openrouter/api/v1/models", "/nowhere"):
        assert (await client.get(path)).headers["x-level5-sandbox"] == "1"


async def test_a_stream_is_chunked_one_event_each_and_ends_with_the_last_chunk(sandbox: Sandbox) -> None:
    received, end = await exchange(sandbox, "words=1")

    assert end == "silent"
    assert received.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n\r\n0\r\n\r\n')
    assert received.count(b"\r\nevent: ") == 7


@pytest.mark.parametrize(("how", "end"), [("close", "closed"), ("reset", "reset")])
async def test_a_stream_can_be_cut_after_an_event(sandbox: Sandbox, how: str, end: str) -> None:
    received, ended = await exchange(sandbox, f"cut_after=2 cut={how}")

    assert ended == end
    assert received.endswith(b'"content_block":{"type":"text","text":""}}\n\n\r\n')
    assert sandbox.visits.latest[0].ended == "cut"
    assert sandbox.visits.latest[0].pieces_sent == 2


async def test_a_body_can_be_cut_after_a_byte(sandbox: Sandbox) -> None:
    received, end = await exchange(sandbox, "cut_bytes=20", stream=False)

    assert end == "closed"
    assert len(received.split(b"\r\n\r\n")[1]) == 20
    assert int(received.split(b"content-length: ")[1].split()[0]) > 20


async def test_a_connection_can_be_closed_before_and_within_the_head(sandbox: Sandbox) -> None:
    assert await exchange(sandbox, "close=before_head") == (b"", "closed")
    assert await exchange(sandbox, "close=before_head cut=reset") == (b"", "reset")
    received, end = await exchange(sandbox, "close=in_head")

    assert (b"\r\n\r\n" in received, end) == (False, "closed")


@pytest.mark.parametrize("script", ["stall=head", "stall=in_head", "stall_after=0", "stall_after=2", "head_delay_ms=60000", "delay_ms=60000"])
async def test_a_silent_answer_ends_when_the_client_leaves(sandbox: Sandbox, script: str) -> None:
    _, end = await exchange(sandbox, script)
    for _ in range(100):
        if sandbox.visits.latest[0].ended != "open":
            break
        await asyncio.sleep(0.01)

    assert end == "silent"
    assert sandbox.visits.latest[0].ended == "client_left"


async def test_heads_and_chunks_can_be_malformed(sandbox: Sandbox) -> None:
    assert (await exchange(sandbox, "bad=head"))[0].startswith(b"HTTQ/1.1 200 OK\r\n")
    assert b"x-sandbox-nul: a\x00b\r\n" in (await exchange(sandbox, "bad=header"))[0]
    assert (await exchange(sandbox, "bad=chunk"))[0].endswith(b"zz\r\nthis is no chunk\r\n")


@pytest.mark.parametrize("difference", [-5, 5])
async def test_a_content_length_can_be_wrong(sandbox: Sandbox, difference: int) -> None:
    received, end = await exchange(sandbox, f"length={difference}", stream=False)
    head, body = received.split(b"\r\n\r\n")

    assert end == "closed"
    assert int(head.split(b"content-length: ")[1].split()[0]) == len(body) + difference


async def test_a_body_may_end_with_the_connection(sandbox: Sandbox) -> None:
    received, end = await exchange(sandbox, "framing=close words=1")

    assert end == "closed"
    assert b"transfer-encoding" not in received
    assert received.endswith(b'{"type":"message_stop"}\n\n')


async def test_informational_answers_and_trailers_are_sent(sandbox: Sandbox) -> None:
    received, _ = await exchange(sandbox, "informational=103 trailers words=1", headers="expect: 100-continue\r\n")

    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Sandbox\r\n")
    assert received.endswith(b"\r\n0\r\nx-sandbox-trailer: 1\r\n\r\n")


async def test_a_compressed_answer_is_what_it_says(sandbox: Sandbox) -> None:
    received, _ = await exchange(sandbox, "encoding=gzip words=1", stream=False)
    head, _, body = received.partition(b"\r\n\r\n")

    assert b"content-encoding: gzip" in head
    assert json.loads(gzip.decompress(body))["type"] == "message"


async def test_bytes_that_are_no_http_close_the_connection(sandbox: Sandbox) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
    writer.write(b"this is no HTTP\r\n\r\n")

    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"model":"m"}', 400),
        (b'{"model":"m","messages":[],"metadata":{"sandbox":"colour=red"}}', 400),
        (b'{"model":"m","messages":[],"tools":5,"metadata":{"sandbox":"tool=1"}}', 400),
    ],
)
async def test_requests_that_make_no_sense_are_refused(client: httpx.AsyncClient, body: bytes, status: int) -> None:
    answer = await client.post("/anthropic/v1/messages", content=body)

    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_an_unknown_path_or_method_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/openai/v1/files", json={})).status_code == 404
    assert (await client.put("/openai/v1/responses", json={})).status_code == 404
    assert (await client.get("/openai/v1/models/gpt-none")).status_code == 404


async def test_requests_are_remembered_without_credentials_and_forgotten_on_demand(client: httpx.AsyncClient) -> None:
    await client.post("/anthropic/v1/messages?beta=true", json={"model": "m", "messages": []})
    seen = (await client.get("/_sandbox/requests?bodies=1")).json()
    await client.delete("/_sandbox/requests")

    assert seen["count"] == 1
    assert seen["requests"][0]["headers"]["x-api-key"] == "<operator>"
    assert seen["requests"][0]["query"] == "beta=true"
    assert json.loads(seen["requests"][0]["body"])["model"] == "m"
    assert (await client.get("/_sandbox/requests")).json()["count"] == 0


async def test_the_control_paths_say_what_they_understand(client: httpx.AsyncClient) -> None:
    assert (await client.get("/_sandbox/health")).json() == {"status": "ok"}
    assert (await client.get("/_sandbox/other")).status_code == 404
    assert (await client.post("/_sandbox/script", json={"script": "colour=red"})).status_code == 400
    assert (await client.post("/_sandbox/script", content=b"{")).status_code == 400


async def test_a_recording_is_replayed_byte_for_byte_however_it_is_cut(client: httpx.AsyncClient) -> None:
    names = (await client.get("/_sandbox/recordings")).json()["recordings"]
    assert len(names) >= 15
    for number, name in enumerate(names):
        folder = RECORDINGS / name
        meta = json.loads((folder / "meta.json").read_text())
        headers = {"x-sandbox-recording": name, "x-sandbox-script": f"seed={number} chunk_bytes=40"}
        answer = await client.post("/anthropic/v1/messages", json={"model": "m", "messages": []}, headers=headers)

        assert answer.status_code == meta["status"]
        assert answer.content == (folder / meta["response_file"]).read_bytes(), name


async def test_a_recording_can_be_named_by_the_model(client: httpx.AsyncClient) -> None:
    answer = await client.post("/openai/v1/embeddings", json={"model": "recording:openai/embeddings-json", "input": "x"})

    assert answer.json()["usage"]["prompt_tokens"] == 7


@pytest.mark.parametrize("name", ["openai/none", "../secrets/x", "openai"])
async def test_an_unknown_recording_is_refused(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.post("/openai/v1/responses", json={"model": "m", "input": "x"}, headers={"x-sandbox-recording": name})

    assert answer.status_code == 400


async def test_without_a_folder_there_are_no_recordings() -> None:
    async with run_sandbox() as bare, httpx.AsyncClient(base_url=bare.url, headers={"authorization": "Bearer sandbox-operator-key"}) as http:
        answer = await http.post("/openai/v1/responses", json={"model": "recording:openai/embeddings-json", "input": "x"})

        assert answer.status_code == 400
        assert (await http.get("/_sandbox/recordings")).json() == {"recordings": []}


async def test_it_runs_as_a_program_of_its_own(tmp_path: Path) -> None:
    import sys

    program = await asyncio.create_subprocess_exec(sys.executable, "-m", "sandbox", "--port", str(free_port()), stdout=asyncio.subprocess.PIPE)
    assert program.stdout is not None
    ready = json.loads(await asyncio.wait_for(program.stdout.readline(), 30))
    async with httpx.AsyncClient() as http:
        health = await http.get(f"{ready['url']}/_sandbox/health")
    program.terminate()

    assert health.status_code == 200
    assert await asyncio.wait_for(program.wait(), 10) == 0


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_the_small_posts_are_served_and_a_head_has_no_body(client: httpx.AsyncClient) -> None:
    asked = {"model": "gpt-5.2", "input": "two words"}
    counted = await client.post("/openai/v1/responses/input_tokens", json=asked)
    compacted = await client.post("/openai/v1/responses/compact", json=asked)
    head = await client.head("/openai/v1/models")
    model = await client.get("/openai/v1/models/gpt-4o")

    assert counted.json()["input_tokens"] == 2
    assert compacted.json()["object"] == "response.compaction"
    assert (head.status_code, head.content) == (200, b"")
    assert model.json()["id"] == "gpt-4o"


async def test_requests_sent_ahead_are_answered_in_turn(sandbox: Sandbox) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
    writer.write(encode_request("text=first", stream=False) + encode_request("text=second framing=close", stream=False))
    received = await asyncio.wait_for(reader.read(), 5)
    writer.close()

    assert received.index(b'"first"') < received.index(b'"second"')
    assert sandbox.connections == 1


async def test_it_ends_in_time_whatever_is_still_open() -> None:
    async with asyncio.timeout(10), run_sandbox() as ending:
        silent = await asyncio.open_connection("127.0.0.1", ending.port)
        silent[1].write(encode_request("stall=head", stream=True))
        idle = await asyncio.open_connection("127.0.0.1", ending.port)
        while not ending.visits.count:
            await asyncio.sleep(0.01)

    assert await silent[0].read() == await idle[0].read() == b""
    silent[1].close()
    idle[1].close()
