"""What the pages of an account do: every path that changes something refuses a token for looking and another site's form; a test request finds its charge."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from cli.embedded import EmbeddedPostgres
from control.app import ROUTES
from control.dashboard.connect_trial import Trial, with_charge
from control.dashboard.visitor import Visitor
from ledger.tokens import TokenScope, new_request_id, parse_token
from tests.fakes.books import POLICY, record_of
from tests.fakes.control import Control, control_settings, own_stores, prepare_stores, running_control

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHANGING = sorted({endpoint.path for endpoint, _ in ROUTES if endpoint.method != "GET" and "{api_token}" in endpoint.path})
FORMS = [path for path in CHANGING if path.startswith("/dashboard/")]
FORM = {"content-type": "application/x-www-form-urlencoded"}
OWN = FORM | {"sec-fetch-site": "same-origin"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[Control]:
    async with own_stores(postgres_server, store_home) as urls:
        settings = control_settings(*urls, register={"rate_per_minute": 0})
        await prepare_stores(settings)
        async with running_control(settings) as running:
            yield running


async def post(control: Control, path: str, token: str, headers: dict[str, str]) -> httpx.Response:
    filled = re.sub(r"\{(\w+)\}", lambda name: token if name[1] == "api_token" else f"{name[1]}_1", path)
    return await control.client.post(filled, headers=headers)


async def read_only(control: Control) -> tuple[str, str]:
    """Open an account; return its token and one that is for looking."""
    registered = await control.register()
    text, _ = await control.context.accounts.create_token(await control.account(registered), scope=TokenScope.READ_ONLY)
    return registered["api_token"], text


async def test_a_test_request_whose_answer_told_no_charge_finds_it_in_the_statement(control: Control) -> None:
    registered = await control.register()
    account, token = await control.account(registered), parse_token(registered["api_token"])
    await control.context.accounts.credit(account, 1000, reason="test money", actor="test")
    hold = await control.context.balances.place_hold(token, new_request_id(), minimum=50, amount=50, policy=POLICY)
    await control.context.balances.settle(hold, record_of(hold.request_id, 7))
    standing = await control.context.balances.standing(token)
    visitor = Visitor(context=control.context, token=token, token_text=registered["api_token"], account=account, standing=standing)

    found = await with_charge(visitor, Trial(model="m", request_id=hold.request_id))
    other = await with_charge(visitor, Trial(model="m", request_id="another"))

    assert (found.charge, found.balance) == (7, 993)
    assert (other.charge, other.balance) == (None, None)


async def test_there_are_paths_that_change_something() -> None:
    assert len(FORMS) >= 8
    assert len(CHANGING) > len(FORMS)


@pytest.mark.parametrize("path", CHANGING)
async def test_a_read_only_token_changes_nothing(control: Control, path: str) -> None:
    _, token = await read_only(control)

    answer = await post(control, path, token, OWN)

    assert answer.status_code == 403
    assert token not in answer.text or path.startswith("/dashboard/")


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("headers", [{}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "none"}, {"origin": "https://elsewhere.test"}], ids=str)
async def test_a_form_of_another_site_does_nothing(control: Control, path: str, headers: dict[str, str]) -> None:
    token = (await control.register())["api_token"]

    answer = await post(control, path, token, FORM | headers)

    assert answer.status_code == 403
    assert len(await control.context.accounts.list_tokens(await control.context.accounts.find(token))) == 1
