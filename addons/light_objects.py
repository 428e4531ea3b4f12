# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""mitmproxy's own objects, made of what is of the right kind already: its constructors look at every value, for each request anew."""

import itertools
import time
import uuid
from typing import Any

from mitmproxy import http
from mitmproxy.connection import Client, Server
from mitmproxy.proxy.context import Context

_FLOWS = uuid.uuid4()
_numbers = itertools.count()


class LightServer(Server):
    """A connection to a provider. Nobody changes its address while it is open, which mitmproxy makes sure of at every assignment."""

    __setattr__ = object.__setattr__


def make_request(**fields: Any) -> http.Request:
    """Return a request of the fields of `http.RequestData`."""
    request = http.Request.__new__(http.Request)
    request.data = http.RequestData(**fields)
    return request


def make_response(**fields: Any) -> http.Response:
    """Return an answer of the fields of `http.ResponseData`."""
    response = http.Response.__new__(http.Response)
    response.data = http.ResponseData(**fields)
    return response


def make_flow(client: Client, server: Server, request: http.Request) -> http.HTTPFlow:
    """Return a flow that has just begun."""
    flow = http.HTTPFlow.__new__(http.HTTPFlow)
    flow.__dict__.update(
        id=f"{_FLOWS}-{next(_numbers)}", client_conn=client, server_conn=server, live=True, timestamp_created=time.time(), intercepted=False,
        _resume_event=None, _backup=None, marked="", is_replay=None, metadata={}, comment="", request=request,
    )  # fmt: skip
    return flow


def fork(context: Context) -> Context:
    """Return a copy of a context as `Context.fork` does, without making the server that a fork throws away."""
    forked = Context.__new__(Context)
    forked.client, forked.server, forked.options, forked.layers = context.client, context.server, context.options, context.layers.copy()
    return forked
