"""`docs/clients.md`, written from the same texts that `level5 connect` prints: `python -m config.clients.page`."""

from dataclasses import replace
from pathlib import Path

from config.clients.catalogue import RECIPES, plain_recipe
from config.clients.connection import Connection, Door
from config.clients.showing import as_markdown, fetch_certificate

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
CONNECTION = Connection(origin="http://127.0.0.1:8402", forward="127.0.0.1:8403", ca_file="/home/you/.config/level5/ca.pem")
HEAD = """\
# Connecting clients

This page is written from the texts of `level5 connect`; change them in `config/clients` and run `make settings`.

    level5 connect CLIENT [ACCOUNT] [--token TOKEN] [--door base-url|forward] [--model MODEL] [--url URL] [--write] [--json]

prints the configuration of one client, ready to be pasted; with `--write` it is put into the client's own files. What else
stands in a file stays, with its comments in TOML and YAML; the file as it was is kept beside it (`NAME.backup-DATE-TIME`), and a
second run changes nothing. A file that cannot be changed safely (JSON with comments, for one) is left as it is. For clients
without a file of their own the variables are written to `~/.config/level5/CLIENT.sh`.

`ACCOUNT` is an id or deposit code, for which a new api_token is made (revoke it by `level5 tokens revoke` without touching other
clients), or an api_token. Where the client runs on another machine than the gateway, `--url` says how the gateway is reached from
there.

## The two doors

**Base URL** (port 8402): the client is told that its provider is at the gateway's address, and sends the api_token as its key.
Every model of the rate card is served. Where a client has no place for a key, `http://127.0.0.1:8402/proxy/API_TOKEN` is a base
URL, too; the token then stands in whatever prints or logs URLs. The `/v1` at the end may be there or not: both forms are
understood, and so are both headers (`Authorization: Bearer`, `x-api-key`).

**Forward proxy** (port 8403): the client goes on talking to `api.anthropic.com` or `api.openai.com`, through
`HTTPS_PROXY=http://level5:API_TOKEN@127.0.0.1:8403`, and trusts the gateway's own certificate authority. (The token may be the
user's name as well, `http://API_TOKEN:@…`; but Claude Code and Node then send nothing, since the password is empty.) The client's own
key is thrown away, so any word will do. Other hosts are refused. The certificate is fetched once:

```sh
{fetch}
```

## What users see

Seen with the clients of `tests/clients`, which drives each of them through a running sandbox.

| client | balance used up (402) | provider fails with 5xx | stream breaks off |
| --- | --- | --- | --- |
| Claude Code | text shown at once | up to 10 repeats (`CLAUDE_CODE_MAX_RETRIES`) | asks again, not streamed |
| Codex | text shown after 5 repeats | up to 30 requests | up to 5 repeats |
| OpenCode | text shown at once | repeats with pauses | repeats with pauses |
| aider | text shown with each of 9 tries; ends with exit code 0 | 9 tries | 9 tries |
| Anthropic and OpenAI SDKs, LangChain, Pydantic AI, llm | exception with the text | 2 repeats | exception, no repeat |
| Vercel AI SDK | `AI_APICallError` with the text | 2 repeats | error, no repeat |

A refused request costs nothing, and neither does a 5xx; each repeat after a broken stream is a new request to the provider and is
charged as one. The text of a 402 says what the request needs, what is there, and how to top up.
"""


def write_page() -> str:
    """Return the whole page."""
    parts = [HEAD.replace("{fetch}", fetch_certificate(CONNECTION))]
    for client in RECIPES:
        recipe = plain_recipe(client, CONNECTION)
        parts.append(f"## {recipe.title}\n\n`level5 connect {client}`\n\n{as_markdown(recipe, CONNECTION)}")
        if client != "cursor":
            proxied = replace(CONNECTION, door=Door.FORWARD)
            parts.append(f"### Through the forward proxy\n\n{as_markdown(plain_recipe(client, proxied), proxied)}")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
