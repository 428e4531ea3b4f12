"""Every metric of the appliance, and the page that shows them merged over its processes.

Each role counts in its own process. Where PROMETHEUS_MULTIPROC_DIR is set (the supervisor does it before
a role imports this module) the figures live in files of that folder and the page adds them up; else the
page shows the one process it runs in. No label ever holds an account, a token or a path.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
if FOLDER_VARIABLE in os.environ:
    # No role forks after this, so the process need not be asked for its number at every count.
    values.ValueClass = values.MultiProcessValue(process_identifier=partial(int, os.getpid()))  # type: ignore[no-untyped-call]  # the library leaves it untyped
ARCHIVE_PID = 0  # no process has it: what processes that are gone had counted
PAGE_SECONDS_MAX = 10

ADDED_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
FIRST_BYTE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
REQUEST_BUCKETS = (0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

# The gateway.
requests_total = Counter("level5_requests_total", "Proxy requests answered.", ("provider", "model", "status"))
tokens_total = Counter("level5_tokens_total", "Tokens charged, by kind (input, output, cache_write, cache_read).", ("provider", "model", "kind"))
charges_microunits_total = Counter("level5_charges_microunits_total", "Charged to customers, in microunits.", ("provider", "model"))
provider_cost_microunits_total = Counter("level5_provider_cost_microunits_total", "Owed to providers at list price, in microunits.", ("provider", "model"))
holds_open = Gauge("level5_holds_open", "Holds that the running workers keep open.", multiprocess_mode="livesum")
holds_total = Counter("level5_holds_total", "Holds that ended, by ending (settled, voided, expired, late, spooled).", ("ending",))
estimated_charges_total = Counter("level5_estimated_charges_total", "Charges whose usage the provider did not (fully) report.", ("reason",))
unpriced_answers_total = Counter(
    "level5_unpriced_answers_total", "Answers that the rate card could not price fully, or that named a dearer model or tier.", ("provider",)
)
provider_cost_differences_total = Counter(
    "level5_provider_cost_differences_total", "Answers whose provider states another cost than the rate card's list price.", ("provider", "model")
)
added_latency_seconds = Histogram("level5_added_latency_seconds", "Time a request spent in the gateway and not at the provider.", buckets=ADDED_BUCKETS)
provider_connections_total = Counter("level5_provider_connections_total", "Connections to providers, opened or taken from those kept open.", ("outcome",))
provider_connections_idle = Gauge("level5_provider_connections_idle", "Connections to providers that are kept open and unused.", multiprocess_mode="livesum")
provider_handshakes_total = Counter("level5_provider_handshakes_total", "TLS handshakes with providers on the fast lane (full, resumed).", ("outcome",))
provider_circuits_open = Gauge(
    "level5_provider_circuits_open", "Workers that leave a provider alone for a moment, since it cannot be reached.", ("provider",), multiprocess_mode="livesum"
)
time_to_first_byte_seconds = Histogram(
    "level5_time_to_first_byte_seconds", "Time until the provider's answer began.", ("provider",), buckets=FIRST_BYTE_BUCKETS
)
request_seconds = Histogram("level5_request_seconds", "Time from the request's head to its ending.", ("provider",), buckets=REQUEST_BUCKETS)
upstream_errors_total = Counter("level5_upstream_errors_total", "Provider answers and connections that failed, by reason.", ("provider", "reason"))
operator_alarms_total = Counter("level5_operator_alarms_total", "Providers refused the operator's own key or credit.", ("provider", "reason"))
upstream_repeats_total = Counter(
    "level5_upstream_repeats_total",
    "Requests sent once more, by the provider that had failed, what was changed (other_key, again, fallback) and why.",
    ("provider", "step", "reason"),
)
provider_key_rests_total = Counter("level5_provider_key_rests_total", "Keys left alone for a while, by their position and why.", ("provider", "key", "reason"))
refusals_total = Counter("level5_refusals_total", "Requests refused before anything was sent, by error code.", ("code",))
forward_connects_total = Counter("level5_forward_connects_total", "CONNECT requests at the forward door (metered, unmetered, refused).", ("outcome",))
spool_depth = Gauge("level5_spool_depth", "Charges on disk that Redis does not have yet.", multiprocess_mode="livesum")
worker_tasks = Gauge("level5_worker_tasks", "Tasks of the running workers.", multiprocess_mode="livesum")

# The books.
outbox_depth = Gauge("level5_outbox_depth", "Changes of all shards in Redis that the journal does not have yet.", multiprocess_mode="livemostrecent")
poster_lag_seconds = Gauge("level5_poster_lag_seconds", "Age of the oldest change that is not posted.", multiprocess_mode="livemostrecent")
posted_total = Counter("level5_posted_total", "Outbox entries posted to the journal.")
rebuilds_total = Counter("level5_rebuilds_total", "Shards rebuilt from the journal.")
shards_closed = Gauge("level5_shards_closed", "Shards that serve nothing until they are rebuilt.", multiprocess_mode="livemostrecent")
reconcile_difference_microunits = Gauge(
    "level5_reconcile_difference_microunits", "Sum of the absolute differences found between Redis and the journal.", multiprocess_mode="livemostrecent"
)
reconcile_findings = Gauge("level5_reconcile_findings", "Faults that the last check of the books found.", multiprocess_mode="livemostrecent")

# Deposits on chain.
chain_requests_total = Counter("level5_chain_requests_total", "Calls to RPC providers, by method and outcome.", ("method", "outcome"))
chain_throttled_total = Counter("level5_chain_throttled_total", "Calls that an RPC provider refused because there were too many.", ("provider",))
chain_lag_slots = Gauge(
    "level5_chain_lag_slots", "Finalized slots that an RPC provider is behind the foremost one.", ("provider",), multiprocess_mode="livemostrecent"
)
chain_cursor_age_seconds = Gauge(
    "level5_chain_cursor_age_seconds", "Time since the vault was last read up to a finalized slot without a gap.", multiprocess_mode="livemostrecent"
)
chain_read_timestamp_seconds = Gauge(
    "level5_chain_read_timestamp_seconds", "When the vault was last read so, told also when the watcher is gone.", multiprocess_mode="mostrecent"
)
chain_backlog_depth = Gauge("level5_chain_backlog_depth", "Listed transactions of the vault that are not read yet.", multiprocess_mode="livemostrecent")
chain_oldest_pending_seconds = Gauge(
    "level5_chain_oldest_pending_seconds", "Age of the oldest payment that is confirmed and not finalized.", multiprocess_mode="livemostrecent"
)
chain_gaps_total = Counter("level5_chain_gaps_total", "Times an RPC provider's history of the vault was found incomplete.", ("provider",))
chain_disagreements_total = Counter("level5_chain_disagreements_total", "Transactions of which two RPC providers told differently.")
chain_difference_microunits = Gauge(
    "level5_chain_difference_microunits", "The vault on chain less the vault in the journal, at one slot.", multiprocess_mode="livemostrecent"
)
chain_stray_microunits = Gauge(
    "level5_chain_stray_microunits", "Tokens of our mint in other accounts of the treasury, which nobody is credited for.", multiprocess_mode="livemostrecent"
)
deposits_credited_total = Counter("level5_deposits_credited_total", "Deposits credited to accounts by the watcher.")
deposits_credited_microunits = Gauge(
    "level5_deposits_credited_microunits", "Deposits credited to accounts since the books began.", multiprocess_mode="livemostrecent"
)
deposits_set_aside_microunits = Gauge(
    "level5_deposits_set_aside_microunits", "Deposits that no account is credited for yet.", multiprocess_mode="livemostrecent"
)

# The control API.
control_requests_total = Counter("level5_control_requests_total", "Requests of the control API, by route and status.", ("route", "status"))
ingest_events_total = Counter(
    "level5_ingest_events_total", "Reported usage events, by outcome (recorded, over_balance, over_free_limit, invalid).", ("outcome",)
)
registrations_total = Counter("level5_registrations_total", "Registrations, by outcome (created, limited, unavailable).", ("outcome",))


LABELLED_MAX = 4096


@lru_cache(maxsize=LABELLED_MAX)
def labelled[Metric: (Counter, Gauge, Histogram)](metric: Metric, *values: str) -> Metric:
    """Return a metric's child for these values, in the order of its labels. Finding it by `labels` costs more than counting."""
    return metric.labels(*values)


def prepare_metrics_folder(folder: Path) -> None:
    """Create `folder`, closed to others, without figures of an earlier run. Call it before any role starts."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for figures in folder.glob("*.db"):
        figures.unlink(missing_ok=True)


def fold_dead_processes(folder: Path) -> None:
    """Add what dead processes counted to one archive and remove their files, live gauges with them.

    Counters must not fall when a worker is replaced, and the folder must not grow with every restart.
    Only one process may call this, the one that serves the page.
    """
    for figures in sorted(folder.glob("*_*.db")):
        pid = _pid_of(figures)
        if pid is None or pid == ARCHIVE_PID or _is_alive(pid):
            continue
        kind = figures.stem.rsplit("_", 1)[0]
        if kind in {"counter", "histogram", "summary"} and figures.stat().st_size:
            _add_to_archive(figures, folder / f"{kind}_{ARCHIVE_PID}.db")
        figures.unlink(missing_ok=True)


class MergedFigures(Collector):
    """The figures of all processes that share one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield the sum over the living processes and what the dead ones left."""
        with self._lock:
            fold_dead_processes(self._folder)
            metrics: Iterable[Metric] = MultiProcessCollector(None, path=str(self._folder)).collect()  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
        yield from metrics


def open_registry() -> CollectorRegistry:
    """Return the registry of the page: merged where processes share a folder, else this process alone."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return REGISTRY
    registry = CollectorRegistry()
    registry.register(MergedFigures(Path(folder)))
    return registry


class MetricsServer:
    """The running metrics page; `close` stops it. `port` is the one it got."""

    def __init__(self, host: str, port: int) -> None:
        self._server = ThreadingHTTPServer((host, port), _page_of(open_registry()))
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics-page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the page and wait for its thread, for a limited time."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PAGE_SECONDS_MAX)


def run_metrics_server(host: str, port: int) -> MetricsServer:
    """Serve `GET /metrics` from a thread of this process. One process of the appliance does it.

    Raises:
        OSError: the port is taken.
    """
    return MetricsServer(host, port)


def _page_of(registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Page(BaseHTTPRequestHandler):
        timeout = PAGE_SECONDS_MAX  # a reader that stalls must not keep a thread
        server_version = "level5"
        sys_version = ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] not in {"/metrics", "/"}:
                self.send_error(404)
                return
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            body = encode(registry)
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the standard library's
            """Write nothing: scrapes are of no interest to the log."""

    return Page


def _pid_of(figures: Path) -> int | None:
    digits = figures.stem.rsplit("_", 1)[-1]
    return int(digits) if digits.isdigit() else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it lives and belongs to another user
    return True


def _add_to_archive(figures: Path, archive: Path) -> None:
    """Add the counters of one file to the archive's. Every value of these kinds is a running sum."""
    total = MmapedDict(str(archive))  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
    try:
        for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(figures)):  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
            total.write_value(key, total.read_value(key)[0] + value, timestamp)  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
    finally:
        total.close()  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
