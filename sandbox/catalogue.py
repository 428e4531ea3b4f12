"""The small endpoints: model lists, embeddings, token counts."""

import base64
import hashlib
import struct
from typing import Any

from sandbox.answers import Answer, count_words
from sandbox.chat import usage_member
from sandbox.replies import CREATED, Reply, json_reply

MODELS = {
    "anthropic": ("claude-sonnet-4-6", "claude-opus-4-6", "claude-haiku-4-5-20251001"),
    "openai": ("gpt-5.2", "gpt-5.3-codex", "gpt-4o", "o3", "text-embedding-3-small", "text-embedding-3-large"),
    "openrouter": ("z-ai/glm-5", "qwen/qwen3-max", "qwen/qwen3-coder-plus", "x-ai/grok-4.1-fast", "google/gemini-3.1-pro-preview"),
}
DIMENSIONS = 8


def list_models(provider: str) -> Reply:
    """List the models of a provider in its dialect."""
    models = [_model(provider, name) for name in MODELS[provider]]
    if provider == "anthropic":
        return json_reply({"data": models, "has_more": False, "first_id": models[0]["id"], "last_id": models[-1]["id"]})
    return json_reply({"object": "list", "data": models})


def find_model(provider: str, name: str) -> Reply | None:
    """Describe one model, or nothing when the provider has no such model."""
    return json_reply(_model(provider, name)) if name in MODELS[provider] else None


def _model(provider: str, name: str) -> dict[str, Any]:
    if provider == "anthropic":
        return {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
    return {"id": name, "object": "model", "created": CREATED, "owned_by": provider}


def count_tokens(body: dict[str, Any], answer: Answer, *, responses: bool) -> Reply:
    """Answer a free token count."""
    told = answer.script.usage.input
    tokens = count_words(body) if told is None else told
    return json_reply({"object": "response.input_tokens", "input_tokens": tokens} if responses else {"input_tokens": tokens})


def embed(body: dict[str, Any], answer: Answer, *, provider: str) -> Reply:
    """Answer with short vectors made from the digest of each input."""
    inputs = body.get("input")
    several = isinstance(inputs, list) and not all(isinstance(item, int) for item in inputs)
    vectors = [_vector(repr(item), body) for item in (inputs if isinstance(inputs, list) and several else [inputs])]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = usage_member(answer, provider)
    if usage.get("usage"):
        usage = {"usage": {"prompt_tokens": answer.counts.input, "total_tokens": answer.counts.input}}
    return json_reply({"object": "list", "data": data, "model": answer.model, **usage})


def _vector(text: str, body: dict[str, Any]) -> list[float] | str:
    wanted = body.get("dimensions")
    length = min(wanted, 4096) if isinstance(wanted, int) and wanted > 0 else DIMENSIONS
    digest = hashlib.shake_256(text.encode()).digest(length)
    vector = [(byte - 128) / 128 for byte in digest]
    return base64.b64encode(struct.pack(f"<{length}f", *vector)).decode() if body.get("encoding_format") == "base64" else vector
