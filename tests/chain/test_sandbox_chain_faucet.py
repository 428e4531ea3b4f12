"""The faucet as agents reach it: a path of the gateway that only sandbox mode has."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from cli.embedded import EmbeddedPostgres
from sandbox.chain import instructions
from sandbox.chain.faucet import Payment, pay
from tests.fakes.appliance import CLIENT, Appliance, free_ports
from tests.fakes.chain import USDC, VAULT, open_chain
from tests.fakes.control import Control, control_settings, own_stores, prepare_stores, running_control

CODE = "0123456789ABCDEF"


@pytest_asyncio.fixture
async def stores(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[tuple[str, str]]:
    async with own_stores(postgres_server, store_home) as addresses:
        yield addresses


async def test_real_mode_has_no_faucet(stores: tuple[str, str]) -> None:
    settings = control_settings(*stores)
    await prepare_stores(settings)
    async with running_control(settings) as control:
        answer = await control.client.post("/sandbox/faucet", json={"usdc": 1, "deposit_code": CODE})
        described = (await control.client.get("/openapi.json")).json()["paths"]

    assert answer.status_code == 404
    assert "/sandbox/faucet" not in described


async def test_sandbox_mode_pays_the_vault_or_says_what_is_wrong(stores: tuple[str, str]) -> None:
    async with open_chain() as chain:
        settings = control_settings(*stores, mode="sandbox", sandbox={"chain_port": chain.running.port})
        await prepare_stores(settings)
        async with running_control(settings) as control:
            paid = await give(control, {"usdc": 5 * USDC, "deposit_code": CODE.lower()})
            refused = [
                (await give(control, body)).json()["error"]["message"]
                for body in ({"usdc": 0, "deposit_code": CODE}, {"usdc": 1.5, "deposit_code": CODE}, {"usdc": 1}, {"usdc": 1, "deposit_code": "x"},
                             {"usdc": 1, "wallet": "O" * 40}, {"usdc": 10**12 + 1, "wallet": str(VAULT)}, {"coins": 1})
            ]  # fmt: skip
            described = (await control.client.get("/openapi.json")).json()["paths"]

    assert paid.status_code == 200
    record = chain.cluster.records.by_signature[paid.json()["signature"]]
    assert record.memo == f"[16] {CODE.lower()}"
    assert chain.amount() == paid.json()["usdc"] == 5 * USDC
    for field, message in zip(("usdc", "usdc", "deposit_code", "deposit_code", "wallet", "usdc", "coins"), refused, strict=True):
        assert field in message
    assert "/sandbox/faucet" in described


async def test_a_chain_that_does_not_answer_is_said_so(stores: tuple[str, str]) -> None:
    settings = control_settings(*stores, mode="sandbox", sandbox={"chain_port": free_ports(1)[0]})
    await prepare_stores(settings)
    async with running_control(settings) as control:
        answer = await give(control, {"usdc": 1, "deposit_code": CODE})

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "chain_unavailable"


async def give(control: Control, body: dict[str, Any]) -> httpx.Response:
    return await control.client.post("/sandbox/faucet", json=body)


def test_the_appliance_runs_the_chain_and_the_gateway_leads_to_its_faucet(running: Appliance) -> None:
    code = running.register().deposit_code
    answer = CLIENT.post(f"{running.url}/sandbox/faucet", json={"deposit_code": code, "usdc": 2 * USDC}).raise_for_status().json()
    asked = {"jsonrpc": "2.0", "id": 1, "method": "getSignatureStatuses", "params": [[answer["signature"]]]}
    (status,) = CLIENT.post(running.rpc_url, json=asked).json()["result"]["value"]

    assert status["err"] is None
    assert status["slot"] == answer["slot"]
    assert len(running.pids("sandbox.chain")) == 1
    assert (running.home / "sandbox" / "chain" / "log.jsonl").stat().st_mode & 0o077 == 0


async def test_equal_payments_of_one_moment_all_land(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "UNITS_SPREAD", 50)  # by which equal transactions are told apart; drawn by lot, two of 40 would be the same
    async with open_chain() as chain:
        paid = [pay(chain.cluster, Payment(usdc=1, deposit_code=CODE, wallet=None)) for _ in range(40)]

    assert len({record.signature for record in paid}) == 40
    assert [record.fault for record in paid] == [None] * 40
