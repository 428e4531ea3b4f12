"""Pages for people: made on the server, without scripts, images or anything from elsewhere."""

from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from control.accounts import find_lines, how_to_fund, owner_standing
from control.catalogue import configured_providers, pricing
from control.context import ControlContext, context_of
from control.errors import ApiError, from_ledger
from control.markup import Markup, page, page_policy, tag
from control.schemas import TransactionLine, TransactionsQuery
from ledger.entries import AccountId
from ledger.errors import LedgerError
from ledger.money import format_usdc
from ledger.tokens import parse_token

LINES_SHOWN: Final = 20
STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; border-radius: .4rem; font-size: .85rem; }
.scroll { overflow-x: auto; }
.balance { font-size: 2rem; font-variant-numeric: tabular-nums; margin: .2rem 0; }
.notice { border: 1px solid var(--line); border-left: .4rem solid #c80; padding: .5rem .8rem; border-radius: .3rem; }
footer { margin-top: 3rem; font-size: .85rem; opacity: .8; }
"""
POLICY: Final = page_policy(STYLE)


async def landing(_request: Request) -> Response:
    """Lead people who open the bare address to the prices."""
    return RedirectResponse("/pricing", 307)


async def price_page(request: Request) -> Response:
    """Show the price table."""
    context = context_of(request)
    prices = pricing(context.rates(), rate_card=context.card.hash, providers=configured_providers(context.settings)).pricing
    heads = ("Model", "Input", "Output", "Cache write", "Cache read")
    rows = [
        [name if model.available else f"{name} (not configured)"]
        + [format_usdc(price) for price in (model.input_per_1m, model.output_per_1m, model.cache_write_per_1m, model.cache_read_per_1m)]
        for name, model in prices.items()
    ]
    body = (
        tag("h1", "Level5 prices"),
        tag("p", "USDC per million tokens, mark-up included. Charged per token used, rounded up once per call to a millionth of a USDC."),
        _table(heads, rows, figures_from=1),
        tag("h2", "Start"),
        tag("pre", f"curl -X POST {context.public_url}/v1/register"),
        tag("p", "The same for machines: ", _link("/v1/pricing"), ", ", _link("/openapi.json"), ", ", _link("/llms.txt"), ", ", _link("/SKILL.md"), "."),
    )
    return _html(context, "Level5 prices", *body)


async def dashboard(request: Request) -> Response:
    """Show an account to whoever has its token: balance, how to pay in, how to connect, the last lines."""
    context, text = context_of(request), request.path_params["api_token"]
    try:
        token = parse_token(text)
        standing = await owner_standing(context, token)
    except LedgerError as error:
        return _error_page(context, from_ledger(error))
    body = (
        tag("h1", "Your Level5 account"),
        *(() if standing.status == "active" else (_notice(f"This account is {standing.status}: calls are refused."),)),
        tag("p", f"{format_usdc(standing.balance)} USDC", class_="balance"),
        tag("p", f"{format_usdc(standing.available)} USDC available; {format_usdc(standing.held)} USDC set aside for running calls."),
        _notice("The address of this page contains your api_token, which is the account: keep it secret. It cannot be recovered."),
        tag("h2", "Add funds"),
        await _funding(context, token.account),
        tag("h2", "Connect"),
        *_snippets(context.public_url, text),
        tag("h2", f"Last {LINES_SHOWN} transactions"),
        await _last_lines(context, text),
    )
    return _html(context, "Level5 account", *body)


async def _funding(context: ControlContext, account: AccountId) -> Markup:
    try:
        code = (await context.accounts.find(str(account))).deposit_code
    except LedgerError:
        return _notice("The deposit code cannot be shown at the moment. It is also in the answer to your registration.")
    return Markup(tag("p", "Deposit code: ", tag("strong", code)) + tag("p", how_to_fund(code)))


async def _last_lines(context: ControlContext, text: str) -> Markup:
    try:
        lines = await find_lines(context, parse_token(text), TransactionsQuery(limit=LINES_SHOWN))
    except LedgerError:
        return _notice("Transactions cannot be shown at the moment; the balance above is exact.")
    if not lines:
        return tag("p", "None yet.")
    heads = ("No.", "Time (UTC)", "Type", "Model", "Tokens in", "Tokens out", "USDC", "Balance")
    return _table(heads, [_cells(line) for line in lines], figures_from=4)


def _cells(line: TransactionLine) -> list[str]:
    tokens = ["" if count is None else str(count) for count in (line.input_tokens, line.output_tokens)]
    when = line.created_at.strftime("%Y-%m-%d %H:%M:%S")
    estimated = " (estimated)" if line.estimated else ""
    return [str(line.id), when, line.type + estimated, line.model or "", *tokens, format_usdc(line.usdc_amount), format_usdc(line.balance_after)]


def _snippets(public_url: str, api_token: str) -> tuple[Markup, ...]:
    base = f"{public_url}/proxy/{api_token}"
    texts = {
        "Claude Code": f"export ANTHROPIC_BASE_URL={base}\nexport ANTHROPIC_API_KEY=unused",
        "Anthropic SDK": f'Anthropic(base_url="{base}", api_key="unused")',
        "OpenAI SDK": f'OpenAI(base_url="{base}/v1", api_key="unused")',
        "Codex (config.toml)": (
            'model_provider = "level5"\n\n[model_providers.level5]\nname = "Level5"\n'
            f'base_url = "{base}/v1"\nenv_key = "LEVEL5_KEY"  # any text\nwire_api = "responses"'
        ),
    }
    return tuple(Markup(tag("h3", name) + tag("pre", text)) for name, text in texts.items())


def _error_page(context: ControlContext, error: ApiError) -> Response:
    return _html(context, "Level5", tag("h1", f"{error.status}"), tag("p", error.message), status=error.status, headers=error.headers)


def _html(context: ControlContext, title: str, *body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    sandbox = (_notice("Sandbox: simulated providers, no real money."),) if context.settings.mode == "sandbox" else ()
    footer = tag("footer", f"Level5 {context.version} · ", _link("/pricing"), " · ", _link("/health"))
    return HTMLResponse(page(title, *sandbox, *body, footer, style=STYLE), status, headers={"Content-Security-Policy": POLICY, **(headers or {})})


def _table(heads: tuple[str, ...], rows: list[list[str]], *, figures_from: int) -> Markup:
    def cells(kind: str, texts: tuple[str, ...] | list[str]) -> list[Markup]:
        return [tag(kind, text, **({"class_": "figure"} if index >= figures_from else {})) for index, text in enumerate(texts)]

    body = [tag("tr", cells("td", row)) for row in rows]
    return tag("div", tag("table", tag("thead", tag("tr", cells("th", heads))), tag("tbody", body)), class_="scroll")


def _notice(text: str) -> Markup:
    return tag("p", text, class_="notice")


def _link(path: str) -> Markup:
    return tag("a", path, href=path)
