"""What a module of pages says of its routes."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from control.openapi import Endpoint

# Pages give `described=False`: /openapi.json is for programs.
type PageRoute = tuple[Endpoint, Callable[[Request], Awaitable[Response]]]
