"""The peers, each in an environment of its own that `make bench-peers` installs, and nginx, the floor.

A peer that is not there is named in the results with the reason, never left out silently.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import Absent, descendants, free_ports, start, stop, wait_for_answer, wait_for_children, wait_for_port
from bench.systems import HERE, Provider, System

INSTALLED = HERE.parent / ".venv-peers"
LITELLM_SECONDS_MAX = 120.0
PROVIDER_KEY = "bench-provider"
LITELLM_KEY = "sk-bench"


@contextmanager
def run_nginx(provider: Provider, folder: Path, workers: int) -> Iterator[System]:
    """Run nginx as a plain reverse proxy that keeps connections open and buffers no answer."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise Absent("nginx is not installed")
    (port,) = free_ports(1)
    home = folder / f"nginx-{port}"
    home.mkdir()
    (home / "nginx.conf").write_text(_nginx_configuration(home, port, provider, workers))
    log = home / "nginx.log"
    process = start([program, "-p", str(home), "-e", str(log), "-c", str(home / "nginx.conf")], log)
    try:
        wait_for_port(port, process, log)
        wait_for_children(process, workers)
        yield System(name="nginx", port=port, pids=tuple(descendants(process.pid)), helpers=(process.pid,))
    finally:
        stop(process)


def _nginx_configuration(home: Path, port: int, provider: Provider, workers: int) -> str:
    temporary = "".join(f"  {kind}_temp_path {home}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;\n" if os.geteuid() == 0 else ""
    trust = f"proxy_ssl_trusted_certificate {provider.ca_file}; proxy_ssl_verify on; proxy_ssl_name localhost;" if provider.ca_file else ""
    return f"""{user}worker_processes {workers}; daemon off; pid {home}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; client_max_body_size 8m; client_body_buffer_size 2m;
{temporary}  upstream provider {{ server 127.0.0.1:{provider.port}; keepalive 1024; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} reuseport backlog=1024;
    location / {{
      proxy_pass {provider.scheme}://provider; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; {trust}
    }}
  }}
}}
"""


@contextmanager
def run_mitmdump(provider: Provider, folder: Path, workers: int) -> Iterator[System]:
    """Run the proxy that Level5 is built on, with nothing but a script that streams."""
    if workers > 1:
        raise Absent("mitmdump runs in one process")
    (port,) = free_ports(1)
    log = folder / f"mitmdump-{port}.log"
    options = ["-q", "--set", "flow_detail=0", "--set", f"confdir={folder / 'mitmproxy'}", "-s", str(HERE / "streaming_script.py")]
    options += ["--set", f"ssl_verify_upstream_trusted_ca={provider.ca_file}"] if provider.ca_file else []
    mode = ["--mode", f"reverse:{provider.url}", "--listen-host", "127.0.0.1", "-p", str(port)]
    process = start([str(Path(sys.executable).with_name("mitmdump")), *options, *mode], log)
    try:
        wait_for_port(port, process, log)
        yield System(name="mitmdump", port=port, pids=(process.pid, *descendants(process.pid)))
    finally:
        stop(process)


@contextmanager
def run_portkey(provider: Provider, folder: Path, workers: int) -> Iterator[System]:
    """Run Portkey's gateway; it keeps no balance."""
    program = INSTALLED / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    node = shutil.which("node")
    if not program.exists() or node is None:
        raise Absent("Portkey is not installed (`make bench-peers`)")
    if workers > 1:
        raise Absent("Portkey's server runs in one process")
    (port,) = free_ports(1)
    log = folder / f"portkey-{port}.log"
    environment = _without_proxies() | {"NODE_ENV": "production"} | ({"NODE_EXTRA_CA_CERTS": str(provider.ca_file)} if provider.ca_file else {})
    process = start([node, str(program), "--headless", f"--port={port}"], log, environment=environment)
    headers = ("x-portkey-provider: anthropic", f"x-portkey-custom-host: {provider.url}/v1", f"x-api-key: {PROVIDER_KEY}")
    try:
        wait_for_port(port, process, log)
        yield System(name="portkey", port=port, headers=headers, pids=(process.pid, *descendants(process.pid)))
    finally:
        stop(process)


@contextmanager
def run_litellm(provider: Provider, folder: Path, workers: int) -> Iterator[System]:
    """Run LiteLLM's proxy without a database: it checks its master key and keeps no spending."""
    program = INSTALLED / "litellm" / "bin" / "litellm"
    if not program.exists():
        raise Absent("LiteLLM is not installed (`make bench-peers`)")
    (port,) = free_ports(1)
    home = folder / f"litellm-{port}"
    home.mkdir()
    (home / "config.yaml").write_text(
        "model_list:\n- model_name: claude-sonnet-4-6\n  litellm_params:\n    model: anthropic/claude-sonnet-4-6\n"
        f"    api_base: {provider.url}\n    api_key: {PROVIDER_KEY}\ngeneral_settings:\n  master_key: {LITELLM_KEY}\n"
    )
    environment = _without_proxies() | {"HOME": str(home), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    environment |= {"SSL_CERT_FILE": str(provider.ca_file)} if provider.ca_file else {}
    log = home / "litellm.log"
    arguments = ["--config", str(home / "config.yaml"), "--host", "127.0.0.1", "--port", str(port), "--num_workers", str(workers), "--telemetry", "False"]
    process = start([str(program), *arguments], log, environment=environment)
    try:
        wait_for_answer(port, "/health/liveliness", process, log, seconds_max=LITELLM_SECONDS_MAX)
        yield System(name="litellm", port=port, headers=(f"authorization: Bearer {LITELLM_KEY}",), pids=(process.pid, *descendants(process.pid)))
    finally:
        stop(process)


def _without_proxies() -> dict[str, str]:
    """Return an environment in which byte code is kept and loopback is reached directly."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and name != "PYTHONDONTWRITEBYTECODE"}
