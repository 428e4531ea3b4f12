"""Every path that the providers publish, at both doors: what a token opens is metered, free and limited, answered here, or refused."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from addons.local_answers import FreeQuota
from ledger.accounts import NewAccount
from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import Asked, answer, message, says

ID = "abc_123"
ANTHROPIC = (
    "messages", "messages/count_tokens", "messages/batches", f"messages/batches/{ID}", f"messages/batches/{ID}/results", f"messages/batches/{ID}/cancel",
    "complete", "models", "models/claude-sonnet-4-6", "files", f"files/{ID}", f"files/{ID}/content", "skills", f"skills/{ID}", f"skills/{ID}/versions",
    "organizations/me", "organizations/invites", "organizations/users", "organizations/workspaces", "organizations/api_keys",
    "organizations/usage_report/messages", "organizations/cost_report", "experimental/generate_prompt", "experimental/improve_prompt", "environments", "agents",
    "sessions", "vaults", "chat/completions", "embeddings",
)  # fmt: skip
OPENAI = (
    "responses", f"responses/{ID}", f"responses/{ID}/input_items", f"responses/{ID}/cancel", "responses/input_tokens", "responses/compact",
    "conversations", f"conversations/{ID}", f"conversations/{ID}/items", "chat/completions", f"chat/completions/{ID}", f"chat/completions/{ID}/messages",
    "completions", "embeddings", "models", "models/gpt-4o", "audio/speech", "audio/transcriptions", "audio/translations", "audio/voices", "images/generations",
    "images/edits", "images/variations", "videos", f"videos/{ID}", f"videos/{ID}/content", "files", f"files/{ID}", f"files/{ID}/content", "uploads",
    f"uploads/{ID}/parts", "batches", f"batches/{ID}", f"batches/{ID}/cancel", "fine_tuning/jobs", f"fine_tuning/jobs/{ID}", "fine_tuning/alpha/graders/run",
    "moderations", "vector_stores", f"vector_stores/{ID}", f"vector_stores/{ID}/search", f"vector_stores/{ID}/files", "containers", f"containers/{ID}/files",
    "realtime", "realtime/sessions", "realtime/client_secrets", "realtime/transcription_sessions", "realtime/calls", "evals", f"evals/{ID}/runs", "assistants",
    "threads", f"threads/{ID}/runs", f"threads/{ID}/messages", "threads/runs", "organization/usage/completions", "organization/costs", "organization/projects",
    "organization/admin_api_keys", "organization/audit_logs", "chatkit/sessions", "chatkit/threads", "skills", "edits", "engines", "answers", "search",
    "classifications", "dashboard/billing/usage", "me", "prompts",
)  # fmt: skip
OPENROUTER = (
    "chat/completions", "completions", "responses", "messages", "embeddings", "embeddings/models", "models", "models/user", "models/count",
    "models/openai/gpt-4o/endpoints", "endpoints/zdr", "providers", "generation", "generation/content", "credits", "credits/coinbase", "key", "keys",
    f"keys/{ID}", "auth/keys", "auth/keys/code", "activity", "parameters/openai/gpt-4o", "guardrails", "rerank", "audio/speech", "videos", "presets",
    "byok", "organization/members",
)  # fmt: skip
OUTSIDE_V1 = (
    "",
    "/",
    "/v2/messages",
    "/api/claude_code/settings",
    "/backend-api/codex/models",
    "/oauth/token",
    "/v1",
    "/v1/",
    "/internal/messages",
    "/api/v2/x",
)
METHODS = ("GET", "POST", "DELETE", "HEAD")
FREE = ("count_tokens", "input_tokens")
MODELS = {"anthropic": "claude-sonnet-4-6", "openai": "gpt-4o", "openrouter": "glm-5"}
HOSTS = {"anthropic": "https://api.anthropic.com/v1/", "openai": "https://api.openai.com/v1/", "openrouter": "https://openrouter.ai/api/v1/"}


@pytest.fixture
def data_path() -> str:
    """Paths are read by the classifier, which both data paths ask."""
    return "lane"


def body_for(path: str, model: str) -> dict[str, Any]:
    """A body that would be served, were the path."""
    if "messages" in path or "chat/completions" in path:
        return {"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": "Say hi"}]}
    if "embeddings" in path:
        return {"model": "text-embedding-3-small", "input": "hi"}
    return {"model": model, "input": "Say hi", **({} if "input_tokens" in path else {"max_output_tokens": 20})}


async def ask_everything(
    client: httpx.AsyncClient, base: str, paths: tuple[str, ...], *, model: str, headers: dict[str, str] | None = None, methods: tuple[str, ...] = METHODS
) -> Counter[str]:
    """Ask each path by each method; return the statuses by request."""
    room, found = asyncio.Semaphore(12), Counter[str]()

    async def ask(method: str, path: str) -> None:
        async with room:
            body = {"json": body_for(path, model)} if method == "POST" else {}
            response = await client.request(method, base + path, headers=headers, **body)  # type: ignore[arg-type]  # one keyword, or none
        found[f"{method} {path} {response.status_code}"] += 1

    await asyncio.gather(*(ask(method, path) for path in paths for method in methods))
    return found


@pytest.mark.parametrize("door", ["path", "header", "forward"])
@pytest.mark.parametrize(("provider", "paths"), [("anthropic", ANTHROPIC), ("openai", OPENAI), ("openrouter", OPENROUTER)])
async def test_what_a_token_opens_is_paid_for(stage: Stage, monkeypatch: pytest.MonkeyPatch, *, door: str, provider: str, paths: tuple[str, ...]) -> None:
    account, limited = await stage.open_account(1_000_000_000), list[int]()
    monkeypatch.setattr(FreeQuota, "take", lambda self, account: limited.append(account) is None)
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150, "input_tokens": 100, "output_tokens": 50}
    stage.control.script = says(answer({"error": {}}, status=404))  # as the control API answers what is not its own
    stage.provider.script = says(answer(message() | {"model": MODELS[provider], "usage": usage, "choices": [], "object": "chat.completion"}))

    found = await _ask(stage, account, door, provider, paths)

    free = [asked for asked in stage.provider.asked if _path(asked).endswith(FREE)]
    paid = [asked for asked in stage.provider.asked if asked not in free]
    records = await stage.settled(account, charges=len(paid), seconds=20)
    assert sum(record.amount for record in records) == 1_000_000_000 - (await stage.standing(account))[0]
    assert len(limited) == len(free)
    assert all(asked.line.startswith("POST ") for asked in stage.provider.asked)
    assert paid
    served = {request for request in found if request.endswith(" 200")}
    forwarded = {f"POST {path} 200" for path in paths} & served
    assert len(forwarded) == len(stage.provider.asked)
    here = served - forwarded
    assert all(" models" in request for request in here), here
    assert not [request for request in found if request[-3] not in "24"]
    # A bare path that no provider's family begins with is the control API's, which has no key of a provider.
    assert door == "header" or stage.control.asked == []
    assert "operator-key" not in repr(stage.control.asked)


async def _ask(stage: Stage, account: NewAccount, door: str, provider: str, paths: tuple[str, ...]) -> Counter[str]:
    model = MODELS[provider]
    if door == "forward":
        async with stage.through(account) as client:
            return await ask_everything(client, HOSTS[provider], paths, model=model)
    api = "/api/v1/" if provider == "openrouter" else "/v1/"
    if door == "path":
        return await ask_everything(stage.client, f"{stage.url}/proxy/{account.api_token}{api}", paths, model=model)
    return await ask_everything(stage.client, stage.url + api, paths, model=model, headers={"authorization": f"Bearer {account.api_token}"})


def _path(asked: Asked) -> str:
    return asked.line.split(" ")[1]


@pytest.mark.parametrize("provider", ["anthropic", "openai", "openrouter"])
async def test_without_a_token_nothing_is_asked_of_a_provider(stage: Stage, provider: str) -> None:
    paths = {"anthropic": ANTHROPIC, "openai": OPENAI, "openrouter": OPENROUTER}[provider]

    async with stage.through(None) as client:
        inside = await ask_everything(client, HOSTS[provider], paths, model=MODELS[provider], headers={"authorization": "Bearer sk-mine"}, methods=("POST",))
        outside = await ask_everything(client, HOSTS[provider].removesuffix("/v1/").removesuffix("/api"), OUTSIDE_V1, model=MODELS[provider])

    assert stage.provider.asked == []
    assert stage.control.asked == []
    assert {request.rpartition(" ")[2] for request in inside} <= {"401", "404", "405", "422"}
    assert {request for request in outside if request.endswith(" 200")} <= {f"{method} {path} 200" for method in ("GET", "HEAD") for path in OUTSIDE_V1}
