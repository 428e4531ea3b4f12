"""A reply as the dialects make it and as the wire sends it: status, headers and body pieces."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EVENT_STREAM = "text/event-stream; charset=utf-8"
# A fixed moment for all dates inside answers, so that the same script gives the same bytes.
CREATED = 1_767_225_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer ready to be sent. A stream has a piece for every event, any other body is one piece."""

    status: int = 200
    headers: tuple[tuple[str, str], ...]
    pieces: tuple[bytes, ...]
    closing: int = 0  # how many of the last pieces end a stream (usage and terminal events)
    model: str = ""  # that a bill would name
    billed: Mapping[str, int] = field(default_factory=dict)  # tokens by kind, of an answer that a provider would bill

    @property
    def streamed(self) -> bool:
        return any(name.lower() == "content-type" and value.startswith("text/event-stream") for name, value in self.headers)


def json_reply(body: Mapping[str, Any], headers: tuple[tuple[str, str], ...] = (), *, status: int = 200) -> Reply:
    """Make a reply of one JSON body."""
    return Reply(status=status, headers=(("content-type", "application/json"), *headers), pieces=(encode_json(body),))


def encode_json(value: Any) -> bytes:
    """Encode as the providers do: no blanks, no escapes beyond ASCII."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def encode_event(body: Mapping[str, Any], name: str | None = None) -> bytes:
    """Frame one server-sent event, with an `event:` line where the dialect has one."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + encode_json(body) + b"\n\n"
