"""The script that bare mitmdump runs with: answers are streamed, as a proxy for agents has to."""

from mitmproxy import http


def responseheaders(flow: http.HTTPFlow) -> None:
    """Pass every answer on as it comes; without this mitmproxy holds it back until it is complete."""
    if flow.response is not None:
        flow.response.stream = True
