"""The simulated providers: from a request to the reply and the way it is to travel."""

import json
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sandbox.answers import Answer, compose_answer
from sandbox.catalogue import count_tokens, embed, find_model, list_models
from sandbox.chat import reply_to_chat
from sandbox.messages import reply_to_messages
from sandbox.recordings import MODEL_PREFIX, RecordingError, load_recording
from sandbox.refusals import refuse
from sandbox.replies import Reply
from sandbox.responses import reply_to_compact, reply_to_responses
from sandbox.script import Script, ScriptError, WireScript, find_script, parse_script
from sandbox.visits import judge_credentials

PREFIXES = {"/anthropic": "anthropic", "/openai": "openai", "/openrouter/api": "openrouter"}
OPERATIONS = {
    "anthropic": {"/v1/messages", "/v1/messages/count_tokens", "/v1/chat/completions"},
    "openai": {"/v1/chat/completions", "/v1/responses", "/v1/responses/input_tokens", "/v1/responses/compact", "/v1/embeddings"},
    "openrouter": {"/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"},
}
NEEDED = {
    "/v1/messages": "messages",
    "/v1/chat/completions": "messages",
    "/v1/messages/count_tokens": "messages",
    "/v1/responses": "input",
    "/v1/embeddings": "input",
}
QUEUED_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it was read; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool = True


class Refused(Exception):
    """The provider turns the request down."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Providers:
    """All simulated providers of one sandbox."""

    nonce: str
    recordings: Path | None = None
    queued: deque[str] = field(default_factory=lambda: deque(maxlen=QUEUED_MAX))  # scripts for the next requests
    served: int = 0

    def answer(self, request: Request) -> tuple[Reply, Script, str]:
        """Return the reply to a request, its script, and the script's text."""
        self.served += 1
        provider, path = split_path(request.path)
        serial = f"{self.nonce}{self.served:08d}"
        line, script = "", Script()
        try:
            if judge_credentials(request.headers) != "operator":
                raise Refused(401)
            body = _read_body(request)
            line = self.queued.popleft() if self.queued else find_script(request.headers, body)
            script = parse_script(line)
            reply = self._reply(request, body, script, provider=provider, path=path, serial=serial)
        except (Refused, ScriptError, RecordingError) as refusal:
            status = refusal.status if isinstance(refusal, Refused) else 400
            reply, script = refuse(provider, WireScript(message=str(refusal)), status=status, serial=serial), Script()
        except (TypeError, ValueError, AttributeError, KeyError):  # some member is not of the kind it must be
            reply, script = refuse(provider, WireScript(), status=400, serial=serial), Script()
        return _sign(reply, provider, serial), script, line

    def _reply(self, request: Request, body: dict[str, Any], script: Script, *, provider: str, path: str, serial: str) -> Reply:
        recording = _wanted_recording(request, body, script)
        if recording:
            return load_recording(self.recordings, recording)
        if script.wire.status != 200:
            return refuse(provider, script.wire, status=script.wire.status, serial=serial)
        if request.method in {"GET", "HEAD"}:
            return _read_only(provider, path)
        if path not in OPERATIONS[provider] or request.method != "POST":
            raise Refused(404, f"There is no {request.method} {path} at this provider.")
        if not isinstance(body.get("model"), str) or NEEDED.get(path, "model") not in body:
            raise Refused(400, f"model and {NEEDED.get(path, 'model')} are required")
        return _perform(body, script, provider=provider, path=path, serial=serial)


def _perform(body: dict[str, Any], script: Script, *, provider: str, path: str, serial: str) -> Reply:
    answer = compose_answer(body, script, serial=serial)
    if path.endswith(("/count_tokens", "/input_tokens")):
        return count_tokens(body, answer, responses=path.endswith("/input_tokens"))
    return replace(_bill(answer, body, provider=provider, path=path), model=answer.model, billed=asdict(answer.counts))


def _bill(answer: Answer, body: dict[str, Any], *, provider: str, path: str) -> Reply:
    if path == "/v1/messages":
        return reply_to_messages(answer, stream=body.get("stream") is True)
    if path == "/v1/chat/completions":
        return reply_to_chat(answer, body, provider=provider)
    if path == "/v1/responses/compact":
        return reply_to_compact(answer)
    if path == "/v1/responses":
        return reply_to_responses(answer, body, provider=provider)
    return embed(body, answer, provider=provider)


def split_path(path: str) -> tuple[str, str]:
    """Split a path into the provider and the path at that provider; unknown paths are Anthropic's to refuse."""
    for prefix, provider in PREFIXES.items():
        if path == prefix or path.startswith(prefix + "/"):
            return provider, path[len(prefix) :] or "/"
    return "anthropic", path


def _wanted_recording(request: Request, body: dict[str, Any], script: Script) -> str:
    model = body.get("model")
    by_model = model[len(MODEL_PREFIX) :] if isinstance(model, str) and model.startswith(MODEL_PREFIX) else ""
    return request.headers.get("x-sandbox-recording") or script.wire.recording or by_model


def _read_body(request: Request) -> dict[str, Any]:
    if request.method != "POST":
        return {}
    try:
        body = json.loads(request.body)
    except ValueError as error:
        raise Refused(400, "The body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise Refused(400, "The body must be a JSON object.")
    return body


def _read_only(provider: str, path: str) -> Reply:
    if path == "/v1/models":
        return list_models(provider)
    if path.startswith("/v1/models/"):
        found = find_model(provider, path.removeprefix("/v1/models/"))
        if found is not None:
            return found
    raise Refused(404, f"There is nothing at {path}.")


def _sign(reply: Reply, provider: str, serial: str) -> Reply:
    """Add the headers that each provider sends, those about the operator's account included."""
    signed: tuple[tuple[str, str], ...]
    if provider == "anthropic":
        signed = (("request-id", f"req_{serial}"), ("anthropic-organization-id", "org-of-the-operator"), ("anthropic-ratelimit-requests-remaining", "3999"))
    elif provider == "openrouter":
        signed = (("x-generation-id", f"gen-{serial}"),)
    else:
        signed = (
            ("x-request-id", f"req_{serial}"),
            ("openai-organization", "org-of-the-operator"),
            ("openai-processing-ms", "7"),
            ("openai-version", "2020-10-01"),
        )
    present = {name.lower() for name, _ in reply.headers}
    cookie = ("set-cookie", "__sandbox=of-the-operator; Path=/; HttpOnly")
    return replace(reply, headers=(*reply.headers, *(pair for pair in (*signed, cookie) if pair[0] not in present)))
