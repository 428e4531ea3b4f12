"""Anthropic's dialect: POST /v1/messages, plain and streamed, and its token counting."""

import json
from typing import Any

from sandbox.answers import Answer, Counts
from sandbox.refusals import error_object
from sandbox.replies import EVENT_STREAM, Reply, encode_event, json_reply

STOPS = {"end": "end_turn", "tool": "tool_use", "length": "max_tokens"}
NOTHING = Counts(input=0, output=0)
SIGNATURE = "c2FuZGJveC1zaWduYXR1cmU="


def reply_to_messages(answer: Answer, *, stream: bool) -> Reply:
    """Give an answer Anthropic's form."""
    if not stream:
        message = _message(answer, content=_content(answer), stop=_stop(answer))
        return json_reply(_with_usage(message, _final_usage(answer)))
    events = _events(answer)
    failing = answer.script.wire.stream_error
    if failing is not None:
        body = {"type": "error", "error": error_object("anthropic", answer.script.wire, status=529), "request_id": f"req_{answer.serial}"}
        return Reply(headers=(("content-type", EVENT_STREAM),), pieces=(*events[:failing], encode_event(body, "error")))
    return Reply(headers=(("content-type", EVENT_STREAM),), pieces=tuple(events), closing=2)


def _message(answer: Answer, *, content: list[dict[str, Any]], stop: str | None) -> dict[str, Any]:
    return {
        "model": answer.model,
        "id": f"msg_{answer.serial}",
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
    }


def _stop(answer: Answer) -> str:
    return STOPS.get(answer.stop, answer.stop)


def _content(answer: Answer) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if answer.thinking:
        content.append({"type": "thinking", "thinking": "".join(answer.thinking), "signature": SIGNATURE})
    if answer.text:
        content.append({"type": "text", "text": "".join(answer.text)})
    if answer.tool:
        content.append({"type": "tool_use", "id": f"toolu_{answer.serial}", "name": answer.tool.name, "input": json.loads(answer.tool.arguments)})
    return content


def _with_usage(body: dict[str, Any], usage: dict[str, Any] | None) -> dict[str, Any]:
    return body if usage is not None and not usage else {**body, "usage": usage}


def _final_usage(answer: Answer) -> dict[str, Any] | None:
    """The usage of a plain answer: an empty one stands for none at all, None for JSON's null."""
    usage = _usage(answer, output=answer.counts.output)
    if usage:
        usage |= _extras(answer)
    return usage


def _usage(answer: Answer, *, output: int) -> dict[str, Any] | None:
    counts, variant = answer.counts, answer.script.usage.usage
    if variant == "absent":
        return {}
    if variant == "null":
        return None
    if variant == "bare":
        return {"input_tokens": counts.input, "output_tokens": output}
    cache = _null_cache() if variant == "null_fields" else _cache(counts)
    return {"input_tokens": counts.input, **cache, "output_tokens": output, "service_tier": answer.script.answer.tier or "standard"}


def _cache(counts: Counts) -> dict[str, Any]:
    return {
        "cache_creation_input_tokens": counts.cache_write,
        "cache_read_input_tokens": counts.cache_read,
        "cache_creation": {"ephemeral_5m_input_tokens": counts.cache_write_5m, "ephemeral_1h_input_tokens": counts.cache_write_1h},
    }


def _null_cache() -> dict[str, Any]:
    return {"cache_creation_input_tokens": None, "cache_read_input_tokens": None, "cache_creation": None}


def _extras(answer: Answer) -> dict[str, Any]:
    """What only the closing usage says: reasoning, searches, and the passes of other models."""
    extras: dict[str, Any] = {}
    if answer.counts.reasoning:
        extras["output_tokens_details"] = {"thinking_tokens": answer.counts.reasoning}
    if answer.script.usage.web_search:
        extras["server_tool_use"] = {"web_search_requests": answer.script.usage.web_search, "web_fetch_requests": 0}
    if answer.script.usage.iterations:
        extras["iterations"] = [_iteration(line) for line in answer.script.usage.iterations.split(",")]
    return extras


def _iteration(line: str) -> dict[str, Any]:
    """Read `type:model:input:output`; an empty model is the message's own and is not named."""
    kind, model, input_tokens, output_tokens = line.split(":")
    return {"type": kind, **({"model": model} if model else {}), "input_tokens": int(input_tokens), "output_tokens": int(output_tokens), **_cache(NOTHING)}


def _events(answer: Answer) -> list[bytes]:
    blocks = _blocks(answer)
    return [
        _event({"type": "message_start", "message": _with_usage(_message(answer, content=[], stop=None), _opening_usage(answer))}),
        *blocks[:1],
        _event({"type": "ping"}),
        *blocks[1:],
        _event(_with_usage({"type": "message_delta", "delta": {"stop_reason": _stop(answer), "stop_sequence": None}}, _closing_usage(answer))),
        _event({"type": "message_stop"}),
    ]


def _event(body: dict[str, Any]) -> bytes:
    return encode_event(body, str(body["type"]))


def _opening_usage(answer: Answer) -> dict[str, Any] | None:
    usage = _usage(answer, output=min(answer.counts.output, 1))
    if usage and answer.script.usage.usage == "low_start":
        usage["input_tokens"] = answer.counts.input // 2
    return usage


def _closing_usage(answer: Answer) -> dict[str, Any] | None:
    if answer.script.usage.usage == "output_only":
        return {"output_tokens": answer.counts.output}
    usage = _final_usage(answer)
    # As the real streams: the split by lifetime and the tier are told at the start only.
    return usage and {key: value for key, value in usage.items() if key not in {"cache_creation", "service_tier"}}


def _blocks(answer: Answer) -> list[bytes]:
    """The events of all content blocks."""
    events: list[bytes] = []
    for index, block in enumerate(_content(answer)):
        if block["type"] == "thinking":
            start: dict[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in answer.thinking] + [{"type": "signature_delta", "signature": SIGNATURE}]
        elif block["type"] == "text":
            start = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in answer.text]
        else:
            start = {**block, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *(answer.tool.pieces if answer.tool else ()))]
        events.append(_event({"type": "content_block_start", "index": index, "content_block": start}))
        events += [_event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas]
        events.append(_event({"type": "content_block_stop", "index": index}))
    return events
