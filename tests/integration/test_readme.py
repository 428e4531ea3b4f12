"""The README's own words, done as a new user does them."""

import re
import subprocess
import sys
from pathlib import Path

import httpx

from tests.fakes.appliance import Appliance

README = Path(__file__).parents[2] / "README.md"


def test_the_program_that_pays_by_wallet_is_credited(running: Appliance, tmp_path: Path) -> None:
    [program] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "pay.py").write_text(program)
    environment = {**running.environment, "LEVEL5": running.url, "RPC": running.rpc_url}

    done = subprocess.run([sys.executable, "pay.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"paid by [1-9A-HJ-NP-Za-km-z]{64,88}", lines[0])
    assert lines[-1] == "balance: 5000000"
    signature = lines[0].removeprefix("paid by ")
    assert running.ask("deposits", "show", signature)["state"] == "credited"
    running.verify()


def test_the_faucet_pays_into_an_account(running: Appliance) -> None:
    account = running.register()

    answer = httpx.post(f"{running.url}/sandbox/faucet", json={"deposit_code": account.deposit_code, "usdc": 5_000_000}, timeout=30)

    assert answer.status_code == 200, answer.text
    assert httpx.get(f"{running.url}/pay/{account.deposit_code}.svg", timeout=30).headers["content-type"].startswith("image/svg+xml")
    assert running.ask("doctor")["ok"] is True
