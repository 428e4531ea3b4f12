"""The switches of the cluster under /_sandbox: the faucet, slots and forks, faults, and what was asked."""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from solders.account import Account
from solders.pubkey import Pubkey
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.chain.cluster import Cluster
from sandbox.chain.faucet import BadRequest, pay, read_payment
from sandbox.chain.faults import BadFault
from sandbox.chain.genesis import VAULT, is_address
from sandbox.chain.keys import FAUCET, MINT, TREASURY
from sandbox.chain.landing import TransactionRefused
from sandbox.chain.provider import Provider

SLOTS_MAX: Final = 10_000  # in one step
PACE_MAX: Final = 600_000

type Handler = Callable[[Request], Awaitable[Response]]


class Controls:
    """The cluster, its providers, and whether its clock runs by itself."""

    def __init__(self, cluster: Cluster, *, providers: int, ticking: bool) -> None:
        self.cluster, self.ticking = cluster, ticking
        self.providers = [Provider(cluster, number) for number in range(1, providers + 1)]

    def has(self, number: int) -> bool:
        """Whether there is a provider of this number."""
        return 1 <= number <= len(self.providers)

    def provider(self, number: int) -> Provider:
        """Return a provider by its number, counted from 1."""
        return self.providers[number - 1]

    def state(self) -> dict[str, Any]:
        """Return where the chain is and who is who on it."""
        clock, pace = self.cluster.clock, self.cluster.pace
        return {
            "genesis": self.cluster.genesis,
            "slots": {name: clock.covered(name) for name in ("processed", "confirmed", "finalized")},
            "clock": {
                "running": self.ticking,
                "slot_milliseconds": pace.slot_milliseconds,
                "confirmed_slots": pace.confirmed_slots,
                "finalized_slots": pace.finalized_slots,
            },
            "transactions": len(self.cluster.records.all),
            "mint": str(MINT.pubkey()),
            "treasury": str(TREASURY.pubkey()),
            "vault": str(VAULT),
            "faucet": str(FAUCET.pubkey()),
            "providers": len(self.providers),
        }


def control_routes(controls: Controls) -> list[Route]:
    """Return the routes of the switches."""
    cluster = controls.cluster

    async def state(_: Request) -> Response:
        return JSONResponse(controls.state())

    async def faucet(request: Request) -> Response:
        payment = read_payment(await _body(request))
        record = pay(cluster, payment)
        return JSONResponse({"signature": record.signature, "slot": record.slot, "usdc": payment.usdc, "mint": str(MINT.pubkey())})

    async def slots(request: Request) -> Response:
        cluster.advance(_number(await _body(request), "count", least=1, most=SLOTS_MAX))
        return JSONResponse(controls.state())

    async def fork(request: Request) -> Response:
        try:
            dropped = cluster.fork(_number(await _body(request), "slots", least=1, most=SLOTS_MAX))
        except ValueError as error:
            raise BadRequest("slots", str(error)) from error
        return JSONResponse({"dropped": dropped} | controls.state())

    async def clock(request: Request) -> Response:
        body = await _body(request)
        running = body.pop("running", controls.ticking)
        if not isinstance(running, bool):
            raise BadRequest("running", "must be true or false")
        pace = {name: _number(body, name, least=0, most=PACE_MAX) for name in body if name in PACE_NAMES}
        if set(body) - set(pace):
            raise BadRequest(min(set(body) - set(pace)), f"is not known; there are running, {', '.join(PACE_NAMES)}")
        cluster.set_pace(**pace)
        controls.ticking = running
        return JSONResponse(controls.state())

    async def account(request: Request) -> Response:
        body = await _body(request)
        made = Account(_number(body, "lamports", least=0, most=1 << 62), _bytes(body, "data"), Pubkey.from_string(_address(body, "owner")))
        cluster.set_account(_address(body, "address"), made)
        return JSONResponse(controls.state())

    async def program(request: Request) -> Response:
        body = await _body(request)
        cluster.add_program(_address(body, "address"), _bytes(body, "elf"))
        return JSONResponse(controls.state())

    posts = {"faucet": faucet, "slots": slots, "fork": fork, "clock": clock, "account": account, "program": program}
    routes = [Route(f"/_sandbox/{name}", _guarded(handler), methods=["POST"]) for name, handler in posts.items()]
    return [Route("/_sandbox/state", state), *routes, *_provider_routes(controls)]


PACE_NAMES: Final = ("slot_milliseconds", "confirmed_slots", "finalized_slots")


def _provider_routes(controls: Controls) -> list[Route]:
    def provider_of(request: Request) -> Provider:
        number = request.path_params["number"]
        if not controls.has(number):
            raise BadRequest("provider", f"{number} is none; there are {len(controls.providers)}")
        return controls.provider(number)

    async def faults(request: Request) -> Response:
        provider = provider_of(request)
        if request.method == "DELETE":
            provider.faults.clear()
        elif request.method == "PATCH":
            try:
                provider.faults.change(await _body(request))
            except BadFault as error:
                raise BadRequest("faults", str(error)) from error
        return JSONResponse(provider.faults.as_json())

    async def calls(request: Request) -> Response:
        provider = provider_of(request)
        if request.method == "DELETE":
            provider.calls.clear()
        return JSONResponse({"calls": list(provider.calls)})

    return [
        Route("/_sandbox/faults/{number:int}", _guarded(faults), methods=["GET", "PATCH", "DELETE"]),
        Route("/_sandbox/calls/{number:int}", _guarded(calls), methods=["GET", "DELETE"]),
    ]


def _guarded(handler: Handler) -> Handler:
    async def serve(request: Request) -> Response:
        try:
            return await handler(request)
        except BadRequest as error:
            return JSONResponse({"error": {"field": error.field, "message": str(error)}}, 400)
        except TransactionRefused as error:
            return JSONResponse({"error": {"field": "body", "message": f"the transaction does not land: {error}"}}, 400)

    return serve


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise BadRequest("body", "must be JSON") from error
    if not isinstance(body, dict):
        raise BadRequest("body", "must be a JSON object")
    return body


def _number(body: dict[str, Any], field: str, *, least: int, most: int) -> int:
    value = body.get(field)
    if type(value) is not int or not least <= value <= most:
        raise BadRequest(field, f"must be a whole number from {least} to {most}")
    return value


def _address(body: dict[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not is_address(value):
        raise BadRequest(field, "must be a public key in base58")
    return value


def _bytes(body: dict[str, Any], field: str) -> bytes:
    try:
        return base64.b64decode(str(body.get(field) or ""), validate=True)
    except binascii.Error as error:
        raise BadRequest(field, "must be bytes in base64") from error
