# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""For stock mitmproxy: `mitmdump -s addons/entry.py --mode reverse:http://127.0.0.1:8404@8402` (one worker, no drain).

The same addons as the worker's, for development and for looking at traffic with mitmproxy's own tools. The forward door
is `--mode regular@8403 --set confdir=<home>/ca`; hosts that are passed on unread are not offered there.
"""

import sys
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # mitmdump puts the script's own folder first

from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader

from addons.assembly import Assembly, assemble
from addons.listener import OPTIONS
from config.rate_card import load_rate_card
from config.settings import load_settings


class Entry:
    """Puts the gateway together once mitmproxy's loop runs; until then every request is refused."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._assembly: Assembly | None = None

    def load(self, loader: Loader) -> None:  # noqa: ARG002  # mitmproxy's signature
        """Set mitmproxy's options before it listens."""
        ctx.options.update(**OPTIONS)
        if "flow_detail" in ctx.options:
            ctx.options.update(flow_detail=0)  # paths hold api_tokens: they must not be printed

    async def running(self) -> None:
        """Open the stores and add the gateway's own addons, which come after NextLayer."""
        settings = load_settings()
        assembly = await self._stack.enter_async_context(assemble(settings, load_rate_card(settings.rates)))
        assembly.links.attach(ctx.master.addons.get("proxyserver"), assembly.gateway.end)
        ctx.master.addons.add(*assembly.addons)
        self._assembly = assembly

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Refuse what comes before the gateway is ready: mitmproxy would forward it."""
        if self._assembly is None:
            flow.response = http.Response.make(503, b"", {"retry-after": "1", "connection": "close"})

    async def done(self) -> None:
        """Let go of the stores."""
        await self._stack.aclose()


addons = [Entry()]
