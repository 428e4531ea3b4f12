"""Pages for people: made on the server, without scripts, images or anything from elsewhere."""

from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from control.accounts import find_lines, owner_standing
from control.catalogue import configured_providers, pricing
from control.context import ControlContext, context_of
from control.house_page import html_page, link, notice, table
from control.markup import Markup, tag
from control.paying import funding_instructions, how_to_fund
from control.schemas import FundingInstructions, TransactionLine, TransactionsQuery
from ledger.entries import AccountId
from ledger.errors import LedgerError
from ledger.money import format_usdc
from ledger.tokens import parse_token

LINES_SHOWN: Final = 20


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
        table(heads, rows, figures_from=1),
        tag("h2", "Start"),
        tag("pre", f"curl -X POST {context.public_url}/v1/register"),
        tag("p", "The same for machines: ", link("/v1/pricing"), ", ", link("/openapi.json"), ", ", link("/llms.txt"), ", ", link("/SKILL.md"), "."),
    )
    return html_page(context, "Level5 prices", *body)


async def dashboard_door(request: Request) -> Response:
    """Say where an account's page is: what asks for money links to here, without the token that opens it."""
    context = context_of(request)
    body = (
        tag("h1", "Your Level5 account"),
        tag("p", "Balance, transactions and how to pay in stand on the page of your account. Its address ends in your api_token:"),
        tag("pre", f"{context.public_url}/dashboard/<api_token>"),
        tag("p", "It is the part after /proxy/ of the base URL that your client is configured with, or the key that it sends. Keep it secret."),
        tag("p", "With your deposit code alone, which is not secret, anybody can pay in for you:"),
        tag("pre", f"{context.public_url}/pay/<deposit_code>"),
        tag("p", "Prices: ", link("/pricing"), "."),
    )
    return html_page(context, "Level5 account", *body)


async def dashboard(request: Request) -> Response:
    """Show an account to whoever has its token: balance, how to pay in, how to connect, the last lines."""
    context, text = context_of(request), request.path_params["api_token"]
    token = parse_token(text)
    standing = await owner_standing(context, token)
    body = (
        tag("h1", "Your Level5 account"),
        *(() if standing.status == "active" else (notice(f"This account is {standing.status}: calls are refused."),)),
        tag("p", f"{format_usdc(standing.balance)} USDC", class_="balance"),
        tag("p", f"{format_usdc(standing.available)} USDC available; {format_usdc(standing.held)} USDC set aside for running calls."),
        notice("The address of this page contains your api_token, which is the account: keep it secret. It cannot be recovered."),
        tag("h2", "Add funds"),
        await _funding(context, token.account, text),
        tag("h2", "Connect"),
        *_snippets(context.public_url, text),
        tag("h2", f"Last {LINES_SHOWN} transactions"),
        await _last_lines(context, text),
    )
    return html_page(context, "Level5 account", *body)


async def _funding(context: ControlContext, account: AccountId, text: str) -> Markup:
    code = await context.codes.find(account)
    if code is None:
        return notice("The deposit code cannot be shown at the moment. It is also in the answer to your registration.")
    pending = await context.chain.still_pending(account)
    lines = (
        tag("p", "Deposit code: ", tag("strong", code)),
        *((tag("p", f"On its way: {format_usdc(pending)} USDC, seen on chain and not final yet."),) if pending else ()),
        *_addresses(funding_instructions(context, text, code)),
        tag("p", how_to_fund(context, code)),
    )
    return Markup("".join(lines))


def _addresses(instructions: FundingInstructions) -> tuple[Markup, ...]:
    """Return what a payer needs at hand, nothing where paying on chain is closed."""
    if instructions.deposit_address is None or instructions.solana_pay_url is None or instructions.usdc_mint is None:
        return ()
    rows = [["Address", instructions.deposit_address], ["Memo", instructions.memo], ["Token", instructions.usdc_mint]]
    wallet, code = tag("a", "open it", href=instructions.solana_pay_url), tag("a", "the QR code", href=f"/pay/{instructions.memo}")
    return tag("p", "Pay with a wallet: ", wallet, ", or show ", code, "."), table(("", "For a transfer by hand"), rows)


async def _last_lines(context: ControlContext, text: str) -> Markup:
    try:
        lines = await find_lines(context, parse_token(text), TransactionsQuery(limit=LINES_SHOWN))
    except LedgerError:
        return notice("Transactions cannot be shown at the moment; the balance above is exact.")
    if not lines:
        return tag("p", "None yet.")
    heads = ("No.", "Time (UTC)", "Type", "Model", "Tokens in", "Tokens out", "USDC", "Balance")
    return table(heads, [_cells(line) for line in lines], figures_from=4)


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
