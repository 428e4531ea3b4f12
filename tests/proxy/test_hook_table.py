# mypy: disable-error-code="no-untyped-call"
"""The table of hooks does what mitmproxy's own manager does; most tests here run on both."""

import logging
from typing import Any

import pytest
from mitmproxy import hooks
from mitmproxy.addonmanager import AddonManager
from mitmproxy.exceptions import AddonHalt, OptionsError
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook, HttpResponseHook
from mitmproxy.test import tflow

from addons.hook_table import HookTable
from addons.listener import GatewayMaster, make_master
from telemetry.logs import configure_logs


@pytest.fixture(params=[AddonManager, HookTable])
async def manager(request: pytest.FixtureRequest) -> AddonManager:
    master = Master(Options())
    made: AddonManager = request.param(master)
    master.addons = made
    return made


class Listener:
    """Writes down what it hears."""

    def __init__(self, name: str, heard: list[str]) -> None:
        self.name, self.heard = name, heard

    def request(self, flow: object) -> None:
        self.heard.append(self.name)


class Waiting(Listener):
    async def request(self, flow: object) -> None:  # type: ignore[override]
        self.heard.append(self.name)


class Failing(Listener):
    async def request(self, flow: object) -> None:  # type: ignore[override]
        raise ValueError(f"broken {self.name}")


class Halting(Listener):
    def request(self, flow: object) -> None:
        raise AddonHalt


class Updating(Listener):
    def update(self, flows: list[Any]) -> None:
        self.heard.append(f"{self.name} update {len(flows)}")


async def hear(manager: AddonManager) -> None:
    await manager.handle_lifecycle(HttpRequestHook(tflow.tflow()))


async def test_handlers_are_called_in_the_order_of_their_addons(manager: AddonManager) -> None:
    heard: list[str] = []
    manager.add(Listener("a", heard), Waiting("b", heard), object(), Listener("c", heard))

    await hear(manager)
    await hear(manager)

    assert heard == ["a", "b", "c"] * 2


async def test_a_handler_that_fails_is_logged_and_the_others_are_called(manager: AddonManager, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []
    manager.add(Failing("a", heard), Listener("b", heard))

    await hear(manager)

    assert heard == ["b"]
    [record] = [record for record in caplog.records if record.name == "mitmproxy.addonmanager"]
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "Addon error: broken a")
    assert record.exc_info is not None
    frames = []
    trace = record.exc_info[2]
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames == ["request"]


async def test_a_handler_may_keep_an_event_from_the_rest(manager: AddonManager) -> None:
    heard: list[str] = []
    manager.add(Listener("a", heard), Halting("b", heard), Listener("c", heard))

    await hear(manager)

    assert heard == ["a"]


async def test_an_error_of_options_is_for_the_caller(manager: AddonManager) -> None:
    class Strict:
        async def request(self, flow: object) -> None:
            raise OptionsError("no")

    manager.add(Strict())

    with pytest.raises(OptionsError):
        await hear(manager)


async def test_addons_that_come_and_go_are_heard_as_long_as_they_are_there(manager: AddonManager) -> None:
    heard: list[str] = []
    first, second = Listener("a", heard), Listener("b", heard)
    manager.add(first)
    await hear(manager)
    manager.add(second)
    await hear(manager)
    manager.remove(first)
    await hear(manager)
    manager.clear()
    await hear(manager)

    assert heard == ["a", "a", "b", "b"]


async def test_who_wants_updates_gets_them_and_only_of_flows(manager: AddonManager) -> None:
    heard: list[str] = []
    manager.add(Updating("a", heard), Listener("b", heard))

    await hear(manager)
    await manager.handle_lifecycle(hooks.ConfigureHook({"mode"}))

    assert heard == ["a", "b", "a update 1"]


async def test_addons_of_addons_are_heard_even_when_they_change(manager: AddonManager) -> None:
    class Parent(Listener):
        def __init__(self, name: str, heard: list[str]) -> None:
            super().__init__(name, heard)
            self.addons: list[object] = []

    heard: list[str] = []
    parent = Parent("parent", heard)
    manager.add(parent)
    await hear(manager)
    parent.addons.append(Listener("child", heard))
    await hear(manager)

    assert heard == ["parent", "parent", "child"]


async def test_what_is_no_handler_is_told_or_passed_over(manager: AddonManager, caplog: pytest.LogCaptureFixture) -> None:
    class Odd:
        request = logging  # a module that happens to be called like an event

    class Wrong:
        request = "no handler"

    heard: list[str] = []
    manager.add(Odd(), Wrong(), Listener("a", heard))

    await hear(manager)

    assert heard == ["a"]
    assert "not callable" in caplog.text


async def test_changed_options_are_heard_by_everybody(manager: AddonManager) -> None:
    class Configured:
        def __init__(self) -> None:
            self.updates: list[set[str]] = []

        def configure(self, updated: set[str]) -> None:
            self.updates.append(updated)

    addon = Configured()
    manager.add(addon)
    manager.master.options.update(rawtcp=False)

    assert addon.updates == [{"rawtcp"}]


async def test_the_gateways_master_calls_by_table_and_hears_of_options_once(tmp_path: Any) -> None:
    class Configured:
        updates = 0

        def configure(self, updated: set[str]) -> None:
            self.updates += updated == {"keep_host_header"}

    addon = Configured()
    master = make_master(modes=["regular"], confdir=str(tmp_path), idle_seconds_max=60, trusted_ca=None, addons=[addon])
    master.options.update(keep_host_header=False)

    assert addon.updates == 1
    assert isinstance(master, GatewayMaster)
    assert isinstance(master.addons, HookTable)
    assert master.addons.get("configured") is addon
    assert master.addons._row(HttpResponseHook) == ()
    assert master.addons._row(hooks.UpdateHook) == ()


async def test_mitmproxys_own_lines_are_not_even_made(tmp_path: Any) -> None:
    root, before = logging.getLogger(), logging.getLogger().level
    handlers = list(root.handlers)
    made: list[str] = []
    factory = logging.getLogRecordFactory()

    def count(*args: Any, **options: Any) -> logging.LogRecord:
        record = factory(*args, **options)
        made.append(record.name)
        return record

    try:
        configure_logs("debug", "gateway")
        make_master(modes=["regular"], confdir=str(tmp_path), idle_seconds_max=60, trusted_ca=None, addons=[])
        logging.setLogRecordFactory(count)
        logging.getLogger("mitmproxy.proxy.server").log(logging.INFO, "client connect", extra={"client": ("127.0.0.1", 1)})
        assert made == []
    finally:
        logging.setLogRecordFactory(factory)
        root.setLevel(before)
        root.handlers[:] = handlers
