"""Pages measured: what each costs the server with a long history behind it, all processes counted.

`python -m bench.pages [--events 2000000] [--rounds N]`. A whole sandbox appliance serves an account with ninety days of usage events, and the
operator's console. CPU is that of control, gateway, Postgres and Valkey together, less what they use when nobody asks.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.pages_history import write_history
from bench.processes import BenchError, cpu_ms, descendants, free_ports, start, stop, wait_for_answer
from cli.embedded import postgres_url, valkey_url
from config.settings import SANDBOX_FOLDER
from ledger.tokens import parse_token

CPU_MS_MAX: Final = 300
EVENTS: Final = 2_000_000
ROUNDS: Final = 10
IDLE_SECONDS: Final = 4.0
RESULTS: Final = Path(__file__).parent / "results"
PORTS: Final = ("GATEWAY__PORT", "FORWARD__PORT", "CONTROL__PORT", "METRICS__PORT", "SANDBOX__PROVIDER_PORT", "SANDBOX__CHAIN_PORT", "SANDBOX__CHAIN_WS_PORT")
ACCOUNT_PAGES: Final = (
    "", "?range=24h", "?range=30d", "?range=90d", "?range=90d&by=provider", "?range=90d&by=workspace", "?range=90d&by=task_type",
    "?range=90d&zone=America/St_Johns", "?range=90d&by=task_type&zone=America/St_Johns", "?range=custom&from={two_years_ago}&to={today}&by=task_type",
    "/transactions", "/transactions?before=1000000", "/transactions?model=model-3", "/transactions?q=nothing-like-it",
    "/transactions?workspace=ws_bench7&type=DEBIT", "/transactions?from={middle}&to={middle}", "/transactions?q={request_id}", "/funds", "/connect", "/keys",
)  # fmt: skip
PUBLIC_PAGES: Final = ("/", "/pricing", "/dashboard")
CONSOLE_PAGES: Final = (
    "/admin", "/admin/accounts", "/admin/accounts/{public_id}", "/admin/money", "/admin/traffic", "/admin/errors", "/admin/prices", "/admin/rate-cards",
    "/admin/audit", "/admin/sessions",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running appliance."""

    home: Path
    port: int
    pid: int
    environment: dict[str, str]

    @property
    def url(self) -> str:
        """Return where it is reached."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCost:
    """What one page cost on average: CPU of all processes and of Postgres alone, the median time until it was there, and its length."""

    page: str
    cpu_ms: float
    postgres_ms: float
    median_ms: float
    kilobytes: float


@contextmanager
def running_service(folder: Path) -> Iterator[Service]:
    """Run a sandbox appliance of one worker."""
    home = Path(tempfile.mkdtemp(prefix="l5pages-"))
    home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEVEL5_")}
    given = {f"LEVEL5_{name}": str(port) for name, port in ports.items()}
    environment = {**inherited, **given, "LEVEL5_HOME": str(home), "LEVEL5_GATEWAY__WORKERS": "1", "LEVEL5_REGISTER__RATE_PER_MINUTE": "0"}
    log = folder / "level5.log"
    process = start([sys.executable, "-m", "cli.main", "up", "--sandbox"], log, environment=environment)
    try:
        wait_for_answer(ports["GATEWAY__PORT"], "/health", process, log)
        yield Service(home=home, port=ports["GATEWAY__PORT"], pid=process.pid, environment=environment)
    finally:
        stop(process)
        shutil.rmtree(home, ignore_errors=True)


def level5(service: Service, *arguments: str) -> str:
    """Run a command of the operator's."""
    command = [sys.executable, "-m", "cli.main", *arguments]
    done = subprocess.run(command, env=service.environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise BenchError(f"level5 {arguments[0]} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def ask(service: Service, path: str, *, body: object = None, headers: dict[str, str] | None = None) -> tuple[bytes, str]:
    """Send a request; return the answer's body and its cookie."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(service.url + path, data=data, headers={"accept": "text/html", **(headers or {})})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay()).open(request, timeout=120) as answer:
            return answer.read(), answer.headers.get("set-cookie", "").partition(";")[0]
    except urllib.error.HTTPError as error:
        raise BenchError(f"{path} was answered with {error.code}: {error.read(300).decode(errors='replace')}") from error


class _Stay(urllib.request.HTTPRedirectHandler):
    def http_error_303(self, req: object, fp: object, code: int, msg: str, headers: object) -> object:  # noqa: ARG002  # the library's signature
        return fp  # the answer that leads elsewhere is the one that is wanted


def processes(service: Service) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return all processes, and those of Postgres."""
    everything = descendants(service.pid)
    database = tuple(pid for pid, command in everything.items() if "postgres" in command)
    return (service.pid, *everything), database


def spent_ms(pids: Sequence[int], database: Sequence[int]) -> tuple[float, float]:
    """Return the CPU of all and of Postgres, processes of it that have ended since included."""
    ended = sum(_ended_ms(pid) for pid in database)
    return cpu_ms(pids) + ended, cpu_ms(database) + ended


def _ended_ms(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) * 1000 / os.sysconf("SC_CLK_TCK")


def measure(service: Service, path: str, *, shown: str, rounds: int, idle: tuple[float, float], headers: dict[str, str]) -> PageCost:
    """Ask for one page several times and read what it cost."""
    body, _ = ask(service, path, headers=headers)  # connections are open, templates read
    pids, database = processes(service)
    (before, before_database), began, times = spent_ms(pids, database), time.monotonic(), list[float]()
    for _ in range(rounds):
        at = time.monotonic()
        ask(service, path, headers=headers)
        times.append((time.monotonic() - at) * 1000)
    after, after_database = spent_ms(pids, database)
    seconds = time.monotonic() - began
    cost = PageCost(
        page=shown,
        cpu_ms=max(0.0, after - before - idle[0] * seconds) / rounds,
        postgres_ms=max(0.0, after_database - before_database - idle[1] * seconds) / rounds,
        median_ms=statistics.median(times),
        kilobytes=len(body) / 1024,
    )
    print(f"{cost.cpu_ms:8.1f} ms  {shown}", file=sys.stderr, flush=True)
    return cost


def idle_cost(service: Service) -> tuple[float, float]:
    """Return the CPU in ms that all processes, and Postgres, use in a second in which nobody asks."""
    pids, database = processes(service)
    before = spent_ms(pids, database)
    time.sleep(IDLE_SECONDS)
    after = spent_ms(pids, database)
    return (after[0] - before[0]) / IDLE_SECONDS, (after[1] - before[1]) / IDLE_SECONDS


def open_busy_account(service: Service) -> tuple[str, list[str]]:
    """Open an account with a charge of the gateway's and a report of a thousand events; return its token and the pages of both receipts."""
    registered = json.loads(ask(service, "/v1/register", body={})[0])
    token = registered["api_token"]
    level5(service, "credit", registered["deposit_code"], "50", "--reason", "bench")
    bearer = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    message = {"model": "claude-sonnet-4-6", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    ask(service, f"/proxy/{token}/v1/messages", body=message, headers=bearer)
    key = json.loads(ask(service, "/v1/keys", body={"name": "bench"}, headers=bearer)[0])["secret"]
    events = [{"provider": "anthropic", "model": "claude-opus-4-8", "input_tokens": 1200, "output_tokens": 800, "task_type": f"t{n % 9}"} for n in range(1000)]
    ask(service, "/v1/usage", body=events, headers={"authorization": f"Bearer {key}", "content-type": "application/json"})
    return token, ["/transactions/2", "/transactions/3"]


def sign_in(service: Service) -> dict[str, str]:
    """Return the header of an operator who came by a one-time link."""
    link = json.loads(level5(service, "admin", "login", "--json"))["url"]
    path = "/admin/link/" + link.rpartition("/")[2]
    _, cookie = ask(service, path, body={}, headers={"sec-fetch-site": "same-origin"})
    return {"cookie": cookie}


def run(*, events: int, rounds: int, cpu_ms_max: float, write: bool) -> int:
    """Measure, print and keep the figures; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="l5pages-") as folder, running_service(Path(folder)) as service:
        registered = json.loads(ask(service, "/v1/register", body={})[0])
        token = parse_token(registered["api_token"])
        print(f"storing {events} usage events", file=sys.stderr, flush=True)
        home = service.home / SANDBOX_FOLDER
        write_history(postgres_url(home), valkey_url(home), account=token.account, shard=token.shard, events=events)
        public_id = json.loads(level5(service, "accounts", "show", registered["deposit_code"], "--json"))["public_id"]
        busy, receipts = open_busy_account(service)
        console, idle = sign_in(service), idle_cost(service)
        back = {"middle": 45, "two_years_ago": 725, "today": 0}
        days = {name: time.strftime("%Y-%m-%d", time.gmtime(time.time() - number * 86_400)) for name, number in back.items()}
        words = {**days, "request_id": f"{max(1, events // 2):08x}-bec0-7000-8000-000000000000", "public_id": public_id}
        address = f"/dashboard/{registered['api_token']}"
        asked: list[tuple[str, str, dict[str, str]]] = [(f"/dashboard/…{page}", address + page.format(**words), {}) for page in ACCOUNT_PAGES]
        asked += [(f"/dashboard/…{page} ({kind})", f"/dashboard/{busy}{page}", {}) for page, kind in zip(receipts, ("charge", "report"), strict=True)]
        asked += [(page, page, {}) for page in PUBLIC_PAGES]
        asked += [(page, page.format(**words), console) for page in CONSOLE_PAGES]
        costs = [measure(service, path, shown=shown, rounds=rounds, idle=idle, headers=headers) for shown, path, headers in asked]
    print(as_table(costs))
    dear = [cost for cost in costs if cost.cpu_ms >= cpu_ms_max]
    if write:
        RESULTS.mkdir(exist_ok=True)
        place = RESULTS / f"pages-{time.strftime('%Y%m%d-%H%M%S')}.json"
        place.write_text(json.dumps({"events": events, "pages": [asdict(cost) for cost in costs]}, indent=1) + "\n")
        print(f"written to {place}")
    print(f"{len(dear) or 'no'} pages of {len(costs)} cost {cpu_ms_max:.0f} ms of CPU or more, with {events} usage events stored")
    return 1 if dear else 0


def as_table(costs: Sequence[PageCost]) -> str:
    """Return the figures as lines of text."""
    lines = [f"{'page':64}{'CPU ms':>9}{'Postgres':>10}{'median ms':>11}{'kB':>8}"]
    lines += [f"{one.page:64}{one.cpu_ms:>9.1f}{one.postgres_ms:>10.1f}{one.median_ms:>11.1f}{one.kilobytes:>8.1f}" for one in costs]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help="usage events to store (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each page is asked for (default %(default)s)")
    parser.add_argument("--cpu-ms-max", type=float, default=CPU_MS_MAX, help="what a page may cost (default %(default)s)")
    parser.add_argument("--no-file", action="store_true", help="print only")
    flags = parser.parse_args(arguments)
    if flags.events < 1 or flags.rounds < 1:
        parser.error("counts are above zero")
    try:
        return run(events=flags.events, rounds=flags.rounds, cpu_ms_max=flags.cpu_ms_max, write=not flags.no_file)
    except (BenchError, urllib.error.URLError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
