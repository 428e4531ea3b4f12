"""The libraries that programs are written with: variables to export, and a first program."""

from config.clients.coding_agents import require_format
from config.clients.connection import ANY_KEY, Connection
from config.clients.recipes import Program, Recipe

_PYTHON_CA = (
    "SSL_CERT_FILE replaces the certificates that Python trusts. A program that also speaks to others needs a file with both: "
    '`cat "$(python -m certifi)" CA_FILE > both.pem`.'
)
_NODE_PROXY = "Node 22.21, 24 and later need no undici: export NODE_USE_ENV_PROXY=1 instead. Older ones ignore HTTPS_PROXY without it."


def _python_environment(connection: Connection, *, anthropic: bool) -> tuple[tuple[str, str], ...]:
    key, base = ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL") if anthropic else ("OPENAI_API_KEY", "OPENAI_BASE_URL")
    if connection.by_proxy:
        return (("HTTPS_PROXY", connection.proxy_url), ("SSL_CERT_FILE", connection.ca_file), (key, ANY_KEY))
    return ((base, connection.origin if anthropic else connection.openai_base), (key, connection.token))


def _python(connection: Connection, client: str, title: str, *, anthropic: bool, packages: str, text: str) -> Recipe:
    program = Program(language="python", text=text, install=f"pip install {packages}", run="python hello.py")
    ca_note = (_PYTHON_CA.replace("CA_FILE", connection.ca_file),) if connection.by_proxy else ()
    return Recipe(
        client=client,
        title=title,
        environment=_python_environment(connection, anthropic=anthropic),
        program=program,
        needs_certificate=connection.by_proxy,
        notes=ca_note,
    )


def anthropic_python(connection: Connection) -> Recipe:
    """Anthropic's SDK for Python."""
    title = "Anthropic SDK for Python"
    require_format(connection, title, providers=("anthropic", "openrouter"), spoken="Anthropic's format")
    text = f"""\
import anthropic

client = anthropic.Anthropic()  # address and key come from the variables
message = client.messages.create(
    model="{connection.model}",
    max_tokens=1024,
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(message.content[0].text)
"""
    return _python(connection, "anthropic-python", title, anthropic=True, packages="anthropic", text=text)


def openai_python(connection: Connection) -> Recipe:
    """OpenAI's SDK for Python; Claude models answer its chat completions too."""
    text = f"""\
import openai

client = openai.OpenAI()  # address and key come from the variables
completion = client.chat.completions.create(
    model="{connection.model}",
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(completion.choices[0].message.content)
"""
    return _python(connection, "openai-python", "OpenAI SDK for Python", anthropic=False, packages="openai", text=text)


def langchain(connection: Connection) -> Recipe:
    """LangChain's chat models."""
    anthropic = connection.speaks_anthropic
    kind, package = ("ChatAnthropic", "langchain-anthropic") if anthropic else ("ChatOpenAI", "langchain-openai")
    text = f"""\
from {package.replace("-", "_")} import {kind}

model = {kind}(model="{connection.model}")  # address and key come from the variables
print(model.invoke("Hello").text)
"""
    return _python(connection, "langchain", "LangChain", anthropic=anthropic, packages=package, text=text)


def pydantic_ai(connection: Connection) -> Recipe:
    """Pydantic AI's agents."""
    vendor = "anthropic" if connection.speaks_anthropic else "openai"
    # Without a word about it `openai:` means the Responses format, which not every model is served in.
    prefix = "openai-chat" if connection.provider == "openrouter" else vendor
    text = f"""\
from pydantic_ai import Agent

agent = Agent("{prefix}:{connection.model}")  # address and key come from the variables
print(agent.run_sync("Hello").output)
"""
    packages = f"'pydantic-ai-slim[{vendor}]'"
    return _python(connection, "pydantic-ai", "Pydantic AI", anthropic=connection.speaks_anthropic, packages=packages, text=text)


def _node(connection: Connection, client: str, title: str, *, packages: str, environment: tuple[tuple[str, str], ...], text: str) -> Recipe:
    notes: tuple[str, ...] = ()
    if connection.by_proxy:
        proxied = 'import { EnvHttpProxyAgent, setGlobalDispatcher } from "undici";\n'
        imports, blank, rest = text.partition("\n\n")
        text = f"{imports}\n{proxied}{blank}setGlobalDispatcher(new EnvHttpProxyAgent()); // Node's fetch does not read HTTPS_PROXY\n{rest}".replace(
            "\n\n\n", "\n\n"
        )
        environment = (("HTTPS_PROXY", connection.proxy_url), ("NODE_EXTRA_CA_CERTS", connection.ca_file), *environment)
        packages, notes = f"{packages} undici", (_NODE_PROXY,)
    program = Program(language="javascript", text=text, install=f"npm install {packages}", run="node hello.mjs")
    return Recipe(client=client, title=title, environment=environment, program=program, needs_certificate=connection.by_proxy, notes=notes)


def anthropic_js(connection: Connection) -> Recipe:
    """Anthropic's SDK for JavaScript and TypeScript."""
    title = "Anthropic SDK for JavaScript"
    require_format(connection, title, providers=("anthropic", "openrouter"), spoken="Anthropic's format")
    text = f"""\
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic(); // address and key come from the variables
const message = await client.messages.create({{
  model: "{connection.model}",
  max_tokens: 1024,
  messages: [{{ role: "user", content: "Hello" }}],
}});
console.log(message.content[0].text);
"""
    base = () if connection.by_proxy else (("ANTHROPIC_BASE_URL", connection.origin),)
    environment = (*base, ("ANTHROPIC_API_KEY", connection.key))
    return _node(connection, "anthropic-js", title, packages="@anthropic-ai/sdk", environment=environment, text=text)


def openai_js(connection: Connection) -> Recipe:
    """OpenAI's SDK for JavaScript and TypeScript."""
    text = f"""\
import OpenAI from "openai";

const client = new OpenAI(); // address and key come from the variables
const completion = await client.chat.completions.create({{
  model: "{connection.model}",
  messages: [{{ role: "user", content: "Hello" }}],
}});
console.log(completion.choices[0].message.content);
"""
    base = () if connection.by_proxy else (("OPENAI_BASE_URL", connection.openai_base),)
    environment = (*base, ("OPENAI_API_KEY", connection.key))
    return _node(connection, "openai-js", "OpenAI SDK for JavaScript", packages="openai", environment=environment, text=text)


def ai_sdk(connection: Connection) -> Recipe:
    """Vercel's AI SDK, whose base URL ends in /v1 for Anthropic as well."""
    if connection.speaks_anthropic:
        package, make, called, key = "@ai-sdk/anthropic", "createAnthropic", "level5", "ANTHROPIC_API_KEY"
    else:
        # Without a word about it the model is asked in the Responses format, which not every model is served in.
        called = "level5.chat" if connection.provider == "openrouter" else "level5"
        package, make, key = "@ai-sdk/openai", "createOpenAI", "OPENAI_API_KEY"
    options = "" if connection.by_proxy else f'{{ baseURL: "{connection.openai_base}" }}'
    text = f"""\
import {{ generateText }} from "ai";
import {{ {make} }} from "{package}";

const level5 = {make}({options}); // the key comes from the variable
const {{ text }} = await generateText({{ model: {called}("{connection.model}"), prompt: "Hello" }});
console.log(text);
"""
    return _node(connection, "ai-sdk", "Vercel AI SDK", packages=f"ai {package}", environment=((key, connection.key),), text=text)
