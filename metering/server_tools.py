"""Which tools of a request the provider runs by itself, and under which fee's name they are billed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Tools that the client runs: the provider only writes the call. Anthropic's bear a date.
_CLIENT_RUN = re.compile(r"(?:function|custom|computer_use_preview|computer|local_shell|apply_patch|(?:bash|text_editor|computer(?:_toolset)?|memory)_\d{8})\Z")
_DATE = re.compile(r"_(?:\d{8}|\d{4}_\d{2}_\d{2})\Z")
_NAMES = {
    "web_search_preview": "web_search",
    "tool_search_tool_regex": "tool_search",
    "tool_search_tool_bm25": "tool_search",
    "mcp_toolset": "mcp",
}
# Tools whose use costs tokens only (those of `advisor` at its own model's rates).
FREE_TOOLS = frozenset({"web_fetch", "mcp", "tool_search", "advisor", "datetime"})
_TOOLING = frozenset({"tools", "mcp_servers", "max_tool_calls"})
USES_MAX = 1_000
OUTPUT_LIMIT_MAX = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTool:
    """A tool that the provider runs by itself: `name` is the fee's name in the rate card.

    `max_uses` is the client's bound. `model` is another model that the tool asks, billed at that model's
    rates; `output_limit` bounds what that model writes at each use.
    """

    name: str
    max_uses: int | None = None
    model: str | None = None
    output_limit: int | None = None


class InvalidTools(ValueError):
    """A tool is not of the form that any provider takes; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def read_server_tools(values: dict[str, object], more: list[object]) -> tuple[ServerTool, ...]:
    """Return the provider-run tools that a body asks for, one per name, with their uses added up. `more` are those that stand among its contents.

    A kind of tool that is not known here counts as provider-run, under its own name: the rate card
    has no fee for it, so the request is refused instead of served below cost.

    Raises:
        InvalidTools: `tools` is not a list of objects, or a bound is not a whole number from 1 up.
    """
    if _TOOLING.isdisjoint(values) and not more:
        return ()
    uses_max = _read_count(values.get("max_tool_calls"), "max_tool_calls", most=USES_MAX)
    found: dict[tuple[str, str | None], ServerTool] = {}
    for tool in (*_tools(values.get("tools"), "tools"), *_tools(more, "tools of an item")):
        entry = _server_tool(tool, uses_max)
        if entry is not None:
            _add(found, entry)
    if values.get("mcp_servers"):
        _add(found, ServerTool(name="mcp"))
    return tuple(found.values())


def typed_tools(values: dict[str, object], more: list[object]) -> int:
    """Count the tools whose description the provider adds itself, so that no byte of the body stands for it."""
    tools = values.get("tools")
    kinds = (tool.get("type") for tool in (*(tools if isinstance(tools, list) else ()), *more) if isinstance(tool, dict))
    return sum(1 for kind in kinds if kind not in (None, "function", "custom", "namespace"))


def _tools(tools: object, field: str) -> Iterator[dict[str, object]]:
    """Yield the tools of a list; tools in a namespace count like the others."""
    if tools is None:
        return
    if not isinstance(tools, list):
        raise InvalidTools(field, "must be a list")
    pending = [(f"{field}[{index}]", tool) for index, tool in enumerate(tools)]
    while pending:
        place, tool = pending.pop()
        if not isinstance(tool, dict):
            raise InvalidTools(place, "must be an object")
        if tool.get("type") != "namespace":
            yield tool
        elif isinstance(nested := tool.get("tools"), list):
            pending.extend((f"{place}.tools[{index}]", inner) for index, inner in enumerate(nested))


def _server_tool(tool: dict[str, object], uses_max: int | None) -> ServerTool | None:
    kind = tool.get("type")
    if kind is None:
        return None
    if not isinstance(kind, str):
        raise InvalidTools("tools[].type", "must be a string")
    if _CLIENT_RUN.match(kind) or _runs_at_the_client(kind, tool):
        return None
    name = _DATE.sub("", kind.removeprefix("openrouter:"))
    parameters = tool.get("parameters")
    bound = parameters.get("max_uses") if isinstance(parameters, dict) and "max_uses" not in tool else tool.get("max_uses")
    uses = _read_count(bound, "tools[].max_uses", most=USES_MAX)
    model = tool.get("model")
    return ServerTool(
        name=_NAMES.get(name, name)[:80],
        max_uses=uses if uses is not None else uses_max,
        model=model if isinstance(model, str) else None,
        output_limit=_read_count(tool.get("max_tokens"), "tools[].max_tokens", most=OUTPUT_LIMIT_MAX),
    )


def _runs_at_the_client(kind: str, tool: dict[str, object]) -> bool:
    """Two kinds of OpenAI's tools run where they are told to."""
    environment = tool.get("environment")
    local = isinstance(environment, dict) and environment.get("type") == "local"
    return (kind == "tool_search" and tool.get("execution") == "client") or (kind == "shell" and local)


def _read_count(value: object, field: str, *, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidTools(field, f"must be a whole number from 1 to {most}")
    return value


def _add(found: dict[tuple[str, str | None], ServerTool], entry: ServerTool) -> None:
    """Two tools of one name may each be used to their bound; one without a bound makes the sum unbounded."""
    present = found.get((entry.name, entry.model))
    if present is not None:
        uses = present.max_uses + entry.max_uses if present.max_uses is not None and entry.max_uses is not None else None
        limit = max(present.output_limit, entry.output_limit) if present.output_limit is not None and entry.output_limit is not None else None
        entry = ServerTool(name=entry.name, max_uses=uses, model=entry.model, output_limit=limit)
    found[entry.name, entry.model] = entry
