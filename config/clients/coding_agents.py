"""The coding agents and command-line tools: each has settings of its own."""

from config.clients.connection import ANY_KEY, Connection, Door, NotConnected
from config.clients.recipes import ClientFile, FileFormat, Recipe, Value

PROXY_IS_INHERITED = (
    "Everything that it starts (git, package managers, your tests) inherits the proxy, which refuses other hosts unless `forward.tunnel` "
    "lists them. The base URL has no such effect: prefer it where you can."
)
ASKS_FOR_HI = '"Say hi"'


def require_format(connection: Connection, title: str, *, providers: tuple[str, ...], spoken: str) -> None:
    """Refuse a model that is not served in the one format a client speaks.

    Raises:
        NotConnected: naming both.
    """
    if connection.provider not in providers:
        raise NotConnected(f"{title} speaks {spoken} only, in which {connection.model} is not served; choose another model")


def claude_code(connection: Connection) -> Recipe:
    """Claude Code reads variables from its settings file."""
    require_format(connection, "Claude Code", providers=("anthropic", "openrouter"), spoken="Anthropic's format")
    # ANTHROPIC_AUTH_TOKEN rather than ANTHROPIC_API_KEY, which it asks the user to approve.
    variables: dict[str, Value] = {"ANTHROPIC_BASE_URL": connection.origin, "ANTHROPIC_AUTH_TOKEN": connection.key}
    notes: tuple[str, ...] = ("Claude Code also asks small questions of a Haiku model; they are charged at that model's price.",)
    if connection.by_proxy:
        variables = {
            "HTTPS_PROXY": connection.proxy_url,
            "NODE_EXTRA_CA_CERTS": connection.ca_file,
            "ANTHROPIC_AUTH_TOKEN": ANY_KEY,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        notes += ("Updates and telemetry are switched off, since their hosts are refused.", PROXY_IS_INHERITED)
    settings = ClientFile(
        folder="~/.claude", variable="CLAUDE_CONFIG_DIR", path="settings.json", format=FileFormat.JSON, values={"env": variables, "model": connection.model}
    )
    return Recipe(
        client="claude-code",
        title="Claude Code",
        files=(settings,),
        try_it=f"claude -p {ASKS_FOR_HI}",
        needs_certificate=connection.by_proxy,
        notes=notes,
    )


def codex(connection: Connection) -> Recipe:
    """Codex has providers of the user's own; it ignores OPENAI_BASE_URL."""
    require_format(connection, "Codex", providers=("openai", "openrouter"), spoken="OpenAI's Responses format")
    retries = "A 402 is repeated five times before it is shown (8 s); `request_max_retries = 0` in the provider's table shows it at once."
    if connection.by_proxy:
        exports = (("HTTPS_PROXY", connection.proxy_url), ("CODEX_CA_CERTIFICATE", connection.ca_file), ("CODEX_API_KEY", ANY_KEY))
        login = f"CODEX_API_KEY is read by `codex exec`; for the interactive program log in once with `printf {ANY_KEY} | codex login --with-api-key`."
        command = f"codex exec --model {connection.model} {ASKS_FOR_HI}"
        lists = "At its start Codex looks for a list of models at chatgpt.com, which is refused: that takes some seconds."
        notes = (login, lists, PROXY_IS_INHERITED)
        return Recipe(client="codex", title="Codex", environment=exports, try_it=command, needs_certificate=True, notes=notes)
    # A header of ours instead of `env_key`: nothing has to be exported, and the token is no part of the URL, which Codex prints with every error.
    provider: dict[str, Value] = {
        "name": "Level5",
        "base_url": connection.openai_base,
        "wire_api": "responses",
        "http_headers": {"Authorization": f"Bearer {connection.token}"},
    }
    values: dict[str, Value] = {"model": connection.model, "model_provider": "level5", "model_providers": {"level5": provider}}
    settings = ClientFile(folder="~/.codex", variable="CODEX_HOME", path="config.toml", format=FileFormat.TOML, values=values)
    return Recipe(client="codex", title="Codex", files=(settings,), try_it=f"codex exec {ASKS_FOR_HI}", notes=(retries,))


def opencode(connection: Connection) -> Recipe:
    """OpenCode's own providers are turned to us, so that its list of models stays."""
    if connection.provider == "openrouter":
        provider: dict[str, Value] = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "Level5",
            "options": {"baseURL": connection.openai_base, "apiKey": connection.token},
            "models": {connection.model: {"name": connection.model}},
        }
        providers: dict[str, Value] = {"level5": provider}
    else:
        options: dict[str, Value] = {"options": {"baseURL": connection.openai_base, "apiKey": connection.token}}
        providers = {"anthropic": options, "openai": options}
    chosen = f"{'level5' if connection.provider == 'openrouter' else connection.provider}/{connection.model}"
    values: dict[str, Value] = {"$schema": "https://opencode.ai/config.json", "model": chosen, "small_model": chosen}
    notes: tuple[str, ...] = ("Each new conversation has its title written by one more request, which is charged too.",)
    if connection.by_proxy:
        exports = (
            ("HTTPS_PROXY", connection.proxy_url),
            ("NODE_EXTRA_CA_CERTS", connection.ca_file),
            ("ANTHROPIC_API_KEY", ANY_KEY),
            ("OPENAI_API_KEY", ANY_KEY),
        )
        command = f"opencode run --model {chosen} {ASKS_FOR_HI}"
        return Recipe(
            client="opencode", title="OpenCode", environment=exports, try_it=command, needs_certificate=True, notes=(*notes, PROXY_IS_INHERITED)
        )  # fmt: skip
    settings = ClientFile(folder="~/.config/opencode", path="opencode.json", format=FileFormat.JSON, values={**values, "provider": providers})
    return Recipe(client="opencode", title="OpenCode", files=(settings,), try_it=f"opencode run {ASKS_FOR_HI}", notes=notes)


def aider(connection: Connection) -> Recipe:
    """aider reads one file in the home folder; what it has no setting for goes through `set-env`."""
    model = f"{'anthropic' if connection.speaks_anthropic else 'openai'}/{connection.model}"
    values: dict[str, Value] = {"model": model, "weak-model": model, "openai-api-key": connection.key, "anthropic-api-key": connection.key}
    notes: tuple[str, ...] = (
        "aider repeats every refusal eight times with growing pauses (about a minute), a 402 too; it shows the text each time.",
        "The weak model, which writes commit messages, is set to the same model: aider's own choice may have no price here.",
    )
    if connection.by_proxy:
        values["set-env"] = [f"HTTPS_PROXY={connection.proxy_url}", f"SSL_CERT_FILE={connection.ca_file}"]
        notes += (PROXY_IS_INHERITED,)
    else:
        values["openai-api-base"] = connection.openai_base
        values["set-env"] = [f"ANTHROPIC_API_BASE={connection.origin}"]
    settings = ClientFile(folder="~", path=".aider.conf.yml", format=FileFormat.YAML, values=values)
    return Recipe(
        client="aider", title="aider", files=(settings,), try_it=f"aider --message {ASKS_FOR_HI}", needs_certificate=connection.by_proxy, notes=notes
    )  # fmt: skip


def llm(connection: Connection) -> Recipe:
    """llm takes models of an OpenAI-compatible server from one file and their key from another."""
    if connection.by_proxy:
        exports = (
            ("HTTPS_PROXY", connection.proxy_url),
            ("SSL_CERT_FILE", connection.ca_file),
            ("OPENAI_API_KEY", ANY_KEY),
            ("ANTHROPIC_API_KEY", ANY_KEY),
        )
        plugin = ("Claude models need the plugin: `llm install llm-anthropic`. A key that llm has stored is sent instead of these, and dropped all the same.",)
        command = f"llm -m {'anthropic/' if connection.speaks_anthropic else ''}{connection.model} {ASKS_FOR_HI}"
        return Recipe(client="llm", title="llm", environment=exports, try_it=command, needs_certificate=True, notes=plugin)
    name = f"level5/{connection.model}"
    model: dict[str, Value] = {"model_id": name, "model_name": connection.model, "api_base": connection.openai_base, "api_key_name": "level5"}
    files = (
        _llm_file("extra-openai-models.yaml", FileFormat.YAML, [model]),
        _llm_file("keys.json", FileFormat.JSON, {"level5": connection.token}),
    )
    notes = (
        "Claude models work the same way, without a plugin.",
        "On a Mac the folder is ~/Library/Application Support/io.datasette.llm; `llm keys path` tells.",
    )
    return Recipe(client="llm", title="llm", files=files, try_it=f"llm -m {name} {ASKS_FOR_HI}", notes=notes)


def _llm_file(path: str, form: FileFormat, values: Value) -> ClientFile:
    mac_folder = "~/Library/Application Support/io.datasette.llm"
    return ClientFile(folder="~/.config/io.datasette.llm", mac_folder=mac_folder, variable="LLM_USER_PATH", path=path, format=form, values=values)


def cursor(connection: Connection) -> Recipe:
    """Cursor's servers make the requests: only a public https address can be reached by them.

    Raises:
        NotConnected: the forward door was asked for.
    """
    if connection.door is Door.FORWARD:
        raise NotConnected("Cursor's own servers make the requests, which no proxy of yours sees; use the base URL")
    steps = (
        "Open Cursor Settings, Models, API Keys.",
        f"OpenAI API Key: {connection.token}",
        f"Override OpenAI Base URL: {connection.openai_base}",
        f"Under Models add {connection.model} as a custom model, and switch on only models that have a price here.",
        "Press Verify.",
    )
    reachable = connection.origin.startswith("https://")
    unreachable = f"{connection.origin} is no https address: give the gateway a public one (`public_url`) behind a TLS proxy first."
    notes = ("The requests come from Cursor's servers, so a loopback or private address cannot work.", *(() if reachable else (unreachable,)))
    return Recipe(client="cursor", title="Cursor", by_hand=steps, notes=notes)
