"""The simulated cluster as a process: what survives its death, its faucet, its switches from outside."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.chain.cluster import Cluster
from sandbox.chain.faucet import USDC_MAX
from sandbox.chain.genesis import found
from sandbox.chain.store import DamagedLog
from tests.fakes.appliance import free_ports
from tests.fakes.chain import MINT, USDC, VAULT, open_chain
from tests.fakes.interpreter import module_command
from tests.fakes.sbf_event import event_program

CODE = "0123456789ABCDEF"
CLIENT = httpx.Client(timeout=20, verify=False)


class Process:
    """`python -m sandbox.chain` on free ports."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.port, self.ws_port = free_ports(2)
        self._home, self._arguments = home, arguments
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LEVEL5_")}
        environment |= {"LEVEL5_HOME": str(self._home), "LEVEL5_MODE": "sandbox"}
        environment |= {"LEVEL5_SANDBOX__CHAIN_PORT": str(self.port), "LEVEL5_SANDBOX__CHAIN_WS_PORT": str(self.ws_port)}
        command = module_command("sandbox.chain", *self._arguments)
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "chain_ready" in line:
                return
        raise AssertionError("the chain did not start")

    def stop(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.communicate(timeout=20)
        return self.process.returncode

    def ask(self, method: str, *params: Any) -> Any:
        answer = CLIENT.post(f"http://127.0.0.1:{self.port}", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}).json()
        assert "error" not in answer, answer
        return answer["result"]

    def switch(self, path: str, body: Any = None, *, how: str = "POST") -> httpx.Response:
        return CLIENT.request(how, f"http://127.0.0.1:{self.port}/_sandbox/{path}", json=body)

    def told(self) -> dict[str, Any]:
        """Return whatever must be the same after a restart."""
        rows = self.ask("getSignaturesForAddress", str(VAULT), {"commitment": "confirmed"})
        read = {"encoding": "base64", "maxSupportedTransactionVersion": 0, "commitment": "confirmed"}
        return {
            "genesis": self.ask("getGenesisHash"),
            "rows": [{name: row[name] for name in ("signature", "slot", "err", "memo", "blockTime")} for row in rows],
            "transactions": [self.ask("getTransaction", row["signature"], read) for row in rows],
            "vault": self.ask("getAccountInfo", str(VAULT), {"commitment": "processed", "encoding": "base64"})["value"],
            "supply": self.ask("getTokenSupply", str(MINT.pubkey()), {"commitment": "processed"})["value"],
        }


@contextmanager
def a_process(home: Path, *arguments: str) -> Iterator[Process]:
    made = Process(home, *arguments)
    made.start()
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.stop(signal.SIGKILL)


def wait_until_final(process: Process, signature: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        (status,) = process.ask("getSignatureStatuses", [signature], {"searchTransactionHistory": True})["value"]
        if status is not None and status["confirmationStatus"] == "finalized":
            return
        time.sleep(0.05)
    raise AssertionError("the payment was not finalized in time")


def test_history_balances_slots_and_genesis_outlive_a_kill(tmp_path: Path) -> None:
    with a_process(tmp_path, "--slot-milliseconds", "50") as made:
        sent = [made.switch("faucet", {"deposit_code": CODE, "usdc": number * USDC}).json()["signature"] for number in (1, 2, 3)]
        wait_until_final(made, sent[-1])
        made.switch("clock", {"running": False})
        dropped = made.switch("faucet", {"deposit_code": CODE, "usdc": 9 * USDC}).json()["signature"]
        assert made.switch("fork", {"slots": 2}).json()["dropped"] == [dropped]
        made.switch("clock", {"running": True})
        kept = made.switch("faucet", {"deposit_code": CODE, "usdc": 4 * USDC}).json()["signature"]
        wait_until_final(made, kept)
        before, slot = made.told(), made.ask("getSlot", {"commitment": "processed"})
        made.stop(signal.SIGKILL)

        made.start()

        assert made.told() == before
        assert [row["signature"] for row in before["rows"][:4]] == [kept, *sent[::-1]]
        assert dropped not in {row["signature"] for row in before["rows"]}
        assert made.ask("getSlot", {"commitment": "processed"}) >= slot
        assert made.switch("faucet", {"deposit_code": CODE, "usdc": 1}).status_code == 200
        assert made.stop(signal.SIGTERM) == 0


async def test_an_exact_slot_a_pending_fork_programs_and_accounts_outlive_a_restart(tmp_path: Path) -> None:
    async with open_chain(tmp_path) as chain:
        wallet = chain.wallet()
        program, table = chain.event_program(), chain.lookup_table(VAULT)
        chain.finalize()
        chain.pay(wallet, USDC)
        chain.advance(3)
        chain.pay(wallet, 2 * USDC)
        slot, records = chain.slot, [record.signature for record in chain.cluster.records.all]

    async with open_chain(tmp_path) as chain:
        assert chain.slot == slot
        assert [record.signature for record in chain.cluster.records.all] == records
        assert chain.amount() == 3 * USDC
        assert chain.cluster.accounts.now(str(program)) is not None
        assert chain.cluster.accounts.now(str(table.key)) is not None
        assert chain.fork(1) == records[-1:]
        assert chain.amount() == USDC
        assert chain.pay(wallet, 5 * USDC).fault is None
    async with open_chain(tmp_path) as chain:
        assert chain.amount() == 6 * USDC
        assert chain.slot == slot + 1


def test_a_line_that_a_crash_cut_off_is_forgotten_and_damage_elsewhere_is_refused(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    found(cluster)
    genesis, count = cluster.genesis, len(cluster.records.all)
    cluster.close()
    log = tmp_path / "log.jsonl"
    with log.open("ab") as file:
        file.write(b'{"kind":"transaction","sig')

    again = Cluster(tmp_path)
    found(again)
    assert (again.genesis, len(again.records.all)) == (genesis, count)
    again.close()
    assert json.loads(log.read_bytes().splitlines()[-1])

    log.write_bytes(b"{\n" + log.read_bytes())
    with pytest.raises(DamagedLog, match="line 1"):
        Cluster(tmp_path)


async def test_what_cannot_be_written_has_not_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_chain(tmp_path) as chain:
        wallet = chain.wallet()
        log = tmp_path / "log.jsonl"
        before, size = chain.amount(), log.stat().st_size
        paid = chain.build([chain.transfer(wallet, USDC)], [wallet])
        write = os.write
        with monkeypatch.context() as full:
            full.setattr(os, "write", lambda file, line: write(file, line[:20]))
            with pytest.raises(OSError, match="full"):
                chain.land(paid)

        assert (chain.amount(), log.stat().st_size) == (before, size)
        assert chain.land(paid).fault is None
        assert chain.amount() == before + USDC


def test_every_home_has_a_chain_of_its_own(tmp_path: Path) -> None:
    one, two = Cluster(tmp_path / "one"), Cluster(tmp_path / "two")

    assert one.genesis != two.genesis
    one.close()
    two.close()


def test_the_faucet_and_the_switches_say_what_is_wrong(tmp_path: Path) -> None:
    with a_process(tmp_path) as made:
        code = {"deposit_code": CODE}
        refused = {
            "usdc": [code, code | {"usdc": 0}, code | {"usdc": USDC_MAX + 1}, code | {"usdc": "5"}, code | {"usdc": True}],
            "deposit_code": [{"usdc": 1}, {"usdc": 1, "deposit_code": "xyz"}, code | {"usdc": 1, "wallet": str(VAULT)}],
            "wallet": [{"usdc": 1, "wallet": "me"}],
            "money": [{"money": 1}],
            "body": [[1]],
        }
        for field, bodies in refused.items():
            for body in bodies:
                answer = made.switch("faucet", body)
                assert (answer.status_code, answer.json()["error"]["field"]) == (400, field), answer.text

        wallet = "7h7dj2UBJ26oRtkm3LErRxQg6XbC6BLq4SPJXxkioWU3"
        assert made.switch("faucet", {"wallet": wallet, "usdc": 5}).status_code == 200
        assert made.ask("getBalance", wallet, {"commitment": "processed"})["value"] == 10**8
        assert made.switch("faults/1", {"lag": 3}, how="PATCH").json()["lag"] == 3
        assert made.switch("faults/1", {"lagg": 3}, how="PATCH").status_code == 400
        assert made.switch("faults/9", how="GET").status_code == 400
        assert made.switch("faults/1", how="DELETE").json()["lag"] == 0
        assert "getBalance" in made.switch("calls/1", how="GET").json()["calls"]
        stopped = made.switch("clock", {"running": False, "finalized_slots": 4}).json()
        assert stopped["clock"] == {"running": False, "slot_milliseconds": 400, "confirmed_slots": 1, "finalized_slots": 4}
        slot = made.switch("state", how="GET").json()["slots"]["processed"]
        assert made.switch("slots", {"count": 10}).json()["slots"] == {"processed": slot + 10, "confirmed": slot + 9, "finalized": slot + 6}
        assert made.switch("fork", {"slots": 5}).status_code == 400
        elf = base64.b64encode(event_program()).decode()
        assert made.switch("program", {"address": wallet, "elf": elf}).status_code == 200
        account = {"address": str(VAULT), "owner": wallet, "lamports": 5, "data": "AAAA"}
        assert made.switch("account", account).status_code == 200
        assert made.ask("getAccountInfo", str(VAULT), {"commitment": "processed"})["value"]["lamports"] == 5
        assert made.switch("clock", {"speed": 1}).json()["error"]["field"] == "speed"


def test_a_port_that_is_taken_ends_the_process_with_a_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = os.environ | {"LEVEL5_HOME": str(tmp_path), "LEVEL5_MODE": "sandbox"}
        command = [sys.executable, "-m", "sandbox.chain", "--port", str(taken.getsockname()[1]), "--ws-port", "1"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)

    assert done.returncode == 1
    assert "chain_failed" in done.stdout + done.stderr
