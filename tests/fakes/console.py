"""A browser of the operator's console without a browser: it keeps cookies, sends what browsers send, and finds forms in pages."""

import re
from dataclasses import dataclass, field
from html import unescape

import httpx

ORIGIN = "http://127.0.0.1:8402"
CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')
ONCE = re.compile(r'name="once" value="([A-Za-z0-9_-]+)"')


@dataclass
class Browser:
    """One browser. `origin` is what its address bar shows."""

    transport: httpx.AsyncBaseTransport
    origin: str = ORIGIN
    cookies: dict[str, str] = field(default_factory=dict)
    last: httpx.Response | None = None

    async def get(self, path: str, *, site: str = "same-origin", **headers: str) -> httpx.Response:
        return await self._send("GET", path, headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate", **headers})

    async def post(self, path: str, data: dict[str, str] | None = None, *, site: str | None = "same-origin", **headers: str) -> httpx.Response:
        """Post a form as a page of ours does, with the token of the page that was looked at last."""
        fetch = {"sec-fetch-site": site} if site is not None else {}
        return await self._send("POST", path, data={"csrf": self.csrf, **(data or {})}, headers={**fetch, **headers})

    async def _send(self, method: str, path: str, *, headers: dict[str, str], data: dict[str, str] | None = None) -> httpx.Response:
        jar = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        sent = {"accept": "text/html", **jar, **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with httpx.AsyncClient(transport=self.transport, base_url=self.origin, timeout=30) as client:
            answer = await client.request(method, path, data=data, headers=sent)
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if value.strip('"'):
                self.cookies[name] = value
        if method == "GET":
            self.last = answer
        return answer

    @property
    def csrf(self) -> str:
        found = CSRF.search(self.last.text) if self.last is not None else None
        return found[1] if found else ""

    @property
    def once(self) -> str:
        found = ONCE.search(self.last.text) if self.last is not None else None
        assert found is not None, "the page has no form that is good once"
        return found[1]


def text_of(answer: httpx.Response) -> str:
    """Return what a person reads on a page."""
    body = answer.text.partition("<main")[2]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())
