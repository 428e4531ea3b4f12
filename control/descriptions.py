"""Descriptions for machines, made from the running configuration: what they say is what is served."""

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from config.settings import reachable_host
from control.catalogue import DENOMINATION, configured_providers
from control.context import ControlContext, context_of
from control.funding_text import funding_fields, funding_text

SKILL_VERSION: Final = "1.2.0"
PROVIDER_NAMES: Final[Mapping[str, str]] = {"anthropic": "Anthropic", "openai": "OpenAI", "openrouter": "OpenRouter"}
SANDBOX_NOTE: Final = "This instance is a sandbox: its providers are simulated, its balances are not real money.\n"
_TEMPLATES: Final = Path(__file__).parent / "templates"
_SKILL: Final = Template((_TEMPLATES / "skill.md").read_text(encoding="utf-8"))
_LLMS: Final = Template((_TEMPLATES / "llms.txt").read_text(encoding="utf-8"))


async def skill(request: Request) -> Response:
    """Serve the skill for agents."""
    return PlainTextResponse(_filled(_SKILL, await _looked(request)), media_type="text/markdown", headers={"Cache-Control": "no-cache"})


async def llms(request: Request) -> Response:
    """Serve the overview for language models."""
    return PlainTextResponse(_filled(_LLMS, await _looked(request)), headers={"Cache-Control": "no-cache"})


async def agent_service(request: Request) -> Response:
    """Serve the descriptor that agent frameworks configure themselves from."""
    return JSONResponse(descriptor(await _looked(request)), headers={"Cache-Control": "no-cache"})


def descriptor(context: ControlContext) -> dict[str, object]:
    """Return the service descriptor."""
    url = context.public_url
    return {
        "name": "Level5",
        "description": "Billing gateway for AI agents: LLM calls charged per token to a prepaid USDC account.",
        "version": context.version,
        "mode": context.settings.mode,
        "url": url,
        "documentation": {"skill": f"{url}/SKILL.md", "skill_version": SKILL_VERSION, "llms": f"{url}/llms.txt", "openapi": f"{url}/openapi.json"},
        "currency": {"code": "USDC", "denomination": DENOMINATION},
        "authentication": {
            "type": "api_token",
            "placements": ["path", "authorization_bearer", "x_api_key"],
            "obtained_from": {"method": "POST", "url": f"{url}/v1/register", "rate_limit_per_minute": context.settings.register_.rate_per_minute},
        },
        "user_consent_required": ["register", "send_prompts", "pay", "spend"],
        "funding": funding_fields(context),
        "base_urls": {"anthropic": f"{url}/proxy/{{api_token}}", "openai": f"{url}/proxy/{{api_token}}/v1"},
        "forward_proxy": _forward_proxy(context),
        "endpoints": {
            "register": f"{url}/v1/register",
            "pricing": f"{url}/v1/pricing",
            "limits": f"{url}/v1/limits",
            "health": f"{url}/health",
            "balance": f"{url}/proxy/{{api_token}}/balance",
            "transactions": f"{url}/proxy/{{api_token}}/transactions",
            "dashboard": f"{url}/dashboard/{{api_token}}",
            "anthropic_messages": f"{url}/proxy/{{api_token}}/v1/messages",
            "openai_chat_completions": f"{url}/proxy/{{api_token}}/v1/chat/completions",
            "openai_responses": f"{url}/proxy/{{api_token}}/v1/responses",
            "openai_embeddings": f"{url}/proxy/{{api_token}}/v1/embeddings",
            "models": f"{url}/proxy/{{api_token}}/v1/models",
            "usage": f"{url}/v1/usage",
            "ingest_keys": f"{url}/v1/keys",
        },
        "balance_header": "X-Balance-Remaining",
        "providers": sorted(configured_providers(context.settings)),
        "models": [f"{rate.provider}/{rate.model}" for rate in context.served_rates()],
    }


def _forward_proxy(context: ControlContext) -> dict[str, str] | None:
    """Return how HTTPS_PROXY is set, None where it is not offered. Some clients send nothing where a password is empty, so it is the token."""
    settings = context.settings
    if not settings.forward.enabled:
        return None
    host = (urlsplit(settings.public_url).hostname if settings.public_url else None) or reachable_host(settings.forward.host)
    return {"https_proxy": f"http://level5:{{api_token}}@{host}:{settings.forward.port}", "certificate": f"{context.public_url}/ca.pem"}


async def _looked(request: Request) -> ControlContext:
    """Return the context once it is known whether deposits are open."""
    context = context_of(request)
    await context.chain.look()
    return context


def _filled(template: Template, context: ControlContext) -> str:
    served = configured_providers(context.settings)
    names = [name for provider, name in PROVIDER_NAMES.items() if provider in served]
    models = "\n".join(f"- `{rate.provider}/{rate.model}`" for rate in context.served_rates())
    return template.substitute(
        public_url=context.public_url,
        skill_version=SKILL_VERSION,
        sandbox_note=SANDBOX_NOTE if context.settings.mode == "sandbox" else "",
        providers=", ".join(names) or "none is configured yet",
        funding=funding_text(context),
        models=models or "None: the operator has not configured a provider yet.",
    )
