"""The load generator and the mock provider of the measurement, compiled and run."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from bench.processes import BenchError, free_ports, start, stop, wait_for_port
from bench.run import main
from bench.scenarios import Body, request_body
from bench.systems import Provider, compile_programs, run_mock

pytestmark = pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler")
SAID = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return compile_programs(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def mock(programs: dict[str, Path], tmp_path: Path) -> Iterator[Provider]:
    with run_mock(programs["mock_provider"], tmp_path) as provider:
        yield provider


def load(programs: dict[str, Path], port: int, body: Path, *flags: str) -> dict[str, Any]:
    command = [str(programs["load"]), str(port), "/v1/messages", str(body), "4", "40", "20", *flags]
    told: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    return told


@pytest.mark.parametrize("flags", [(), ("-n",), ("-s", "20"), ("-r", "400"), ("-n", "-r", "400")])
@pytest.mark.parametrize("stream", [False, True])
def test_every_request_is_answered(programs: dict[str, Path], mock: Provider, tmp_path: Path, stream: bool, flags: tuple[str, ...]) -> None:
    body = tmp_path / "body.json"
    body.write_bytes(request_body(Body.STREAM if stream else Body.JSON))
    told = load(programs, mock.port, body, *flags)

    assert (told["done"], told["errors"], told["not_200"]) == (40, 0, 0)
    assert told["p99_ms"] >= told["p50_ms"] >= told["ttfb_p50_ms"] > 0


def test_requests_come_no_faster_than_their_rate(programs: dict[str, Path], mock: Provider, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_bytes(request_body(Body.JSON))
    told = load(programs, mock.port, body, "-r", "100")

    assert told["done"] == 40
    assert told["seconds"] >= 0.39


def test_the_mock_speaks_as_a_provider(mock: Provider) -> None:
    claude = anthropic.Anthropic(api_key="any", base_url=f"http://127.0.0.1:{mock.port}")
    with claude.messages.stream(model="claude-sonnet-4-6", max_tokens=9, messages=SAID) as stream:
        message = stream.get_final_message()
    completion = openai.OpenAI(api_key="any", base_url=f"http://127.0.0.1:{mock.port}/v1").chat.completions.create(model="gpt-4o", messages=SAID)

    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (512, 128, 256)
    assert completion.usage is not None
    assert completion.usage.total_tokens == 896


def test_the_load_generator_gives_up_on_a_dead_port(programs: dict[str, Path], tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text("{}")
    told = load(programs, free_ports(1)[0], body)

    assert (told["done"], told["errors"]) == (0, 40)


def test_a_program_that_does_not_listen_is_reported_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(["sh", "-c", "echo cannot start; exit 3"], log)
    with pytest.raises(BenchError, match="cannot start"):
        wait_for_port(free_ports(1)[0], process, log)
    stop(process)


@pytest.mark.parametrize("flags", [["--rounds", "0"], ["--scenarios", "unheard-of"], ["--systems", "unheard-of"]])
def test_flags_that_make_no_sense_are_refused(flags: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(flags)
