"""Chat completions, as OpenAI and (with its additions) OpenRouter speak them."""

import json
from typing import Any

from sandbox.answers import Answer
from sandbox.refusals import error_object
from sandbox.replies import CREATED, EVENT_STREAM, Reply, encode_event, encode_json, json_reply

STOPS = {"end": "stop", "tool": "tool_calls", "refusal": "content_filter"}
DONE = b"data: [DONE]\n\n"


def reply_to_chat(answer: Answer, body: dict[str, Any], *, provider: str) -> Reply:
    """Give an answer the form of a chat completion, streamed when the request says so."""
    if body.get("stream") is not True:
        return json_reply(_completion(answer, provider))
    stream = ChatStream(answer, provider, include_usage=asks_for_usage(body))
    return stream.reply()


def asks_for_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _completion(answer: Answer, provider: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(answer.text) or None, "refusal": None}
    if answer.thinking and provider == "openrouter":
        message["reasoning"] = "".join(answer.thinking)
    if answer.tool:
        message["tool_calls"] = [_tool_call(answer, answer.tool.arguments)]
    choices = [{"index": index, "message": message, "logprobs": None, **_finish(answer, provider)} for index in range(answer.choices)]
    return {**_frame(answer, provider, "chat.completion"), "choices": choices, **usage_member(answer, provider)}


def _frame(answer: Answer, provider: str, kind: str) -> dict[str, Any]:
    prefix = "gen-" if provider == "openrouter" else "chatcmpl-"
    frame: dict[str, Any] = {"id": f"{prefix}{answer.serial}", "object": kind, "created": CREATED, "model": answer.model}
    if provider == "openrouter":
        return {**frame, "provider": "Sandbox"}
    return {**frame, "service_tier": answer.script.answer.tier or "default", "system_fingerprint": "fp_sandbox"}


def _finish(answer: Answer, provider: str) -> dict[str, Any]:
    reason = STOPS.get(answer.stop, answer.stop)
    native = {"native_finish_reason": reason} if provider == "openrouter" else {}
    return {"finish_reason": reason, **native}


def _tool_call(answer: Answer, arguments: str) -> dict[str, Any]:
    name = answer.tool.name if answer.tool else ""
    return {"id": f"call_{answer.serial}", "type": "function", "function": {"name": name, "arguments": arguments}}


def usage_member(answer: Answer, provider: str) -> dict[str, Any]:
    """Return the `usage` member of an answer, in the variant that the script wants."""
    variant = answer.script.usage.usage
    if variant == "absent":
        return {}
    return {"usage": None if variant == "null" else _usage(answer, provider)}


def _usage(answer: Answer, provider: str) -> dict[str, Any]:
    counts, told = answer.counts, answer.script.usage
    usage: dict[str, Any] = {
        "prompt_tokens": counts.input_total,
        "completion_tokens": counts.output,
        "total_tokens": counts.input_total + counts.output,
    }
    if told.usage == "bare":
        return usage
    if told.cost:
        usage |= {"cost": json.loads(told.cost), "is_byok": False}
    if told.usage == "null_fields":
        return {**usage, "prompt_tokens_details": None, "completion_tokens_details": None}
    cached = {"cached_tokens": counts.cache_read, "audio_tokens": told.audio_input}
    if counts.cache_write or provider == "openrouter":
        cached["cache_write_tokens"] = counts.cache_write
    completion = {"reasoning_tokens": counts.reasoning, "audio_tokens": told.audio_output}
    if provider != "openrouter":
        completion |= {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    return {**usage, "prompt_tokens_details": cached, "completion_tokens_details": completion}


class ChatStream:
    """The chunks of one streamed completion."""

    def __init__(self, answer: Answer, provider: str, *, include_usage: bool) -> None:
        self._answer, self._provider = answer, provider
        # OpenRouter sends usage whether or not it was asked for.
        self._include_usage = include_usage or provider == "openrouter"
        self._null_usage = {"usage": None} if include_usage and provider != "openrouter" else {}

    def reply(self) -> Reply:
        """Return the whole stream; an error takes the place of everything from its event on."""
        chunks = [chunk for index in range(self._answer.choices) for chunk in self._choice(index)]
        if self._provider == "openrouter":
            chunks.insert(0, b": OPENROUTER PROCESSING\n\n")
        failing = self._answer.script.wire.stream_error
        ending = self._ending() if failing is None else self._error()
        closing = 0 if failing is not None else len(ending)
        return Reply(headers=(("content-type", EVENT_STREAM),), pieces=(*chunks[:failing], *ending), closing=closing)

    def _choice(self, index: int) -> list[bytes]:
        answer = self._answer
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "" if answer.text else None, "refusal": None}]
        if self._provider == "openrouter":
            deltas += [{"reasoning": piece} for piece in answer.thinking]
        deltas += [{"content": piece} for piece in answer.text]
        if answer.tool:
            deltas.append({"tool_calls": [{"index": 0, **_tool_call(answer, "")}]})
            deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in answer.tool.pieces]
        chunks = [self._chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}]) for delta in deltas]
        return [*chunks, self._chunk([{"index": index, "delta": {}, "logprobs": None, **_finish(answer, self._provider)}])]

    def _ending(self) -> list[bytes]:
        if not self._include_usage or self._answer.script.usage.usage == "absent":
            return [DONE]
        with_choices = self._provider == "openrouter" or self._answer.script.usage.usage == "choices"
        choices = [{"index": 0, "delta": {"role": "assistant", "content": ""}, **_finish(self._answer, self._provider)}] if with_choices else []
        return [self._chunk(choices, usage_member(self._answer, self._provider)), DONE]

    def _error(self) -> list[bytes]:
        error = {"error": error_object(self._provider, self._answer.script.wire, status=502 if self._provider == "openrouter" else 500)}
        if self._provider != "openrouter":
            return [encode_event(error)]
        empty = [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error", "native_finish_reason": None}]
        return [self._chunk(empty, {**error, **usage_member(self._answer, self._provider)}), DONE]

    def _chunk(self, choices: list[dict[str, Any]], more: dict[str, Any] | None = None) -> bytes:
        frame = _frame(self._answer, self._provider, "chat.completion.chunk")
        return b"data: " + encode_json({**frame, "choices": choices, **(self._null_usage if more is None else more)}) + b"\n\n"
