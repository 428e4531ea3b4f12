"""The Responses dialect: POST /v1/responses, its token counting and its compaction."""

from itertools import count
from typing import Any

from sandbox.answers import Answer
from sandbox.refusals import error_object
from sandbox.replies import CREATED, EVENT_STREAM, Reply, encode_event, json_reply

# What an item leaves out when it is announced.
EMPTY: dict[str, dict[str, Any]] = {"message": {"content": []}, "function_call": {"arguments": ""}, "reasoning": {"summary": []}}


def reply_to_responses(answer: Answer, body: dict[str, Any], *, provider: str) -> Reply:
    """Give an answer the form of a response, streamed when the request says so."""
    if body.get("stream") is not True:
        return json_reply(_response(answer, body, status=_status(answer), output=_output(answer), usage=usage_member(answer)))
    return ResponseStream(answer, body, provider).reply()


def reply_to_compact(answer: Answer) -> Reply:
    """Answer a compaction: billed, with usage, but without naming a model."""
    item = {"id": f"cmp_{answer.serial}", "type": "compaction", "encrypted_content": "c2FuZGJveA=="}
    return json_reply({"created_at": CREATED, "id": f"resp_{answer.serial}", "object": "response.compaction", "output": [item], **usage_member(answer)})


def _status(answer: Answer) -> str:
    return "incomplete" if answer.stop == "length" else "completed"


def _response(answer: Answer, body: dict[str, Any], *, status: str, output: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"resp_{answer.serial}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": answer.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": answer.script.answer.tier or "default",
        "store": body.get("store", True),
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": body.get("tools", []),
        "top_p": 1.0,
        "truncation": "disabled",
        **usage,
        "user": None,
        "metadata": {},
    }


def usage_member(answer: Answer) -> dict[str, Any]:
    """Return the `usage` member of a finished response, in the variant that the script wants."""
    counts, told = answer.counts, answer.script.usage
    if told.usage == "absent":
        return {}
    if told.usage == "null":
        return {"usage": None}
    usage: dict[str, Any] = {"input_tokens": counts.input_total, "output_tokens": counts.output, "total_tokens": counts.input_total + counts.output}
    if told.usage == "null_fields":
        usage |= {"input_tokens_details": None, "output_tokens_details": None}
    elif told.usage != "bare":
        cached = {"cached_tokens": counts.cache_read, **({"cache_write_tokens": counts.cache_write} if counts.cache_write else {})}
        usage |= {"input_tokens_details": cached, "output_tokens_details": {"reasoning_tokens": counts.reasoning}}
    return {"usage": usage}


def _output(answer: Answer) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if answer.counts.reasoning:
        shown = [{"type": "summary_text", "text": "".join(answer.thinking)}] if answer.thinking else []
        items.append({"id": f"rs_{answer.serial}", "type": "reasoning", "summary": shown})
    for number in range(answer.script.usage.web_search):
        action = {"type": "search", "query": "sandbox"}
        items.append({"id": f"ws_{answer.serial}_{number}", "type": "web_search_call", "status": "completed", "action": action})
    if answer.text:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": "".join(answer.text)}
        items.append({"id": f"msg_{answer.serial}", "type": "message", "status": _status(answer), "role": "assistant", "content": [part]})
    if answer.tool:
        call = {"call_id": f"call_{answer.serial}", "name": answer.tool.name, "arguments": answer.tool.arguments}
        items.append({"id": f"fc_{answer.serial}", "type": "function_call", "status": "completed", **call})
    return items


class ResponseStream:
    """The events of one streamed response."""

    def __init__(self, answer: Answer, body: dict[str, Any], provider: str) -> None:
        self._answer, self._body, self._provider = answer, body, provider
        self._sequence = count()
        self._events: list[bytes] = []

    def reply(self) -> Reply:
        """Return the whole stream; an error takes the place of everything from its event on."""
        beginning = _response(self._answer, self._body, status="in_progress", output=[], usage={"usage": None})
        self._add("response.created", response=beginning)
        self._add("response.in_progress", response=beginning)
        for index, item in enumerate(_output(self._answer)):
            self._add_item(index, item)
        failing = self._answer.script.wire.stream_error
        if failing is not None:
            del self._events[failing:]
            self._fail()
        else:
            final = _response(self._answer, self._body, status=_status(self._answer), output=_output(self._answer), usage=usage_member(self._answer))
            self._add(f"response.{_status(self._answer)}", response=final)
        done = [b"data: [DONE]\n\n"] if self._provider == "openrouter" else []
        closing = 0 if failing is not None else 1 + len(done)
        return Reply(headers=(("content-type", EVENT_STREAM),), pieces=(*self._events, *done), closing=closing)

    def _fail(self) -> None:
        error = error_object("openai", self._answer.script.wire, status=500)
        self._add("error", error=error)
        failed = _response(self._answer, self._body, status="failed", output=[], usage={"usage": None})
        self._add("response.failed", response={**failed, "error": {"code": error["code"] or "server_error", "message": error["message"]}})

    def _add_item(self, index: int, item: dict[str, Any]) -> None:
        empty = EMPTY.get(item["type"], {})
        self._add("response.output_item.added", output_index=index, item={**item, **empty, **({"status": "in_progress"} if "status" in item else {})})
        place = {"item_id": item["id"], "output_index": index}
        if item["type"] == "message":
            self._add_text(place, item["content"][0])
        elif item["type"] == "function_call" and self._answer.tool:
            for piece in self._answer.tool.pieces:
                self._add("response.function_call_arguments.delta", **place, delta=piece)
            self._add("response.function_call_arguments.done", **place, arguments=item["arguments"])
        elif item["type"] == "reasoning":
            for piece in self._answer.thinking:
                self._add("response.reasoning_summary_text.delta", **place, summary_index=0, delta=piece)
        self._add("response.output_item.done", output_index=index, item=item)

    def _add_text(self, place: dict[str, Any], part: dict[str, Any]) -> None:
        place = {**place, "content_index": 0}
        self._add("response.content_part.added", **place, part={**part, "text": ""})
        for piece in self._answer.text:
            self._add("response.output_text.delta", **place, delta=piece, logprobs=[])
        self._add("response.output_text.done", **place, text=part["text"], logprobs=[])
        self._add("response.content_part.done", **place, part=part)

    def _add(self, kind: str, **members: Any) -> None:
        # OpenRouter leaves out the `event:` lines of this dialect.
        name = None if self._provider == "openrouter" else kind
        self._events.append(encode_event({"type": kind, "sequence_number": next(self._sequence), **members}, name))
