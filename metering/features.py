"""Modes and further models that a body asks for and that token prices alone do not cover."""

from collections.abc import Iterator, Mapping, Sequence

from metering.server_tools import ServerTool

# Values of a field that change no price; any other value is a feature of its own.
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "background": (None, False),
    "speed": (None, "standard"),
    "inference_geo": (None, "global"),
    "route": (None, "fallback"),
    "preset": (None,),
    "web_search_options": (None,),
}


def read_features(values: dict[str, object], *, audio_input: bool) -> frozenset[str]:
    """Return the names of the priced modes of a body, such as `speed:fast` or `plugin:web`."""
    found = set(_unusual_values(values))
    found.update(f"plugin:{name}" for name in _plugins(values.get("plugins")))
    modalities = values.get("modalities")
    if modalities is not None:
        asked = modalities if isinstance(modalities, list) else [modalities]
        found.update(f"{str(name)[:40]}_output" for name in asked if name != "text")
    if values.get("audio") is not None:
        found.add("audio_output")
    if audio_input:
        found.add("audio_input")
    return frozenset(found)


def _unusual_values(values: dict[str, object]) -> Iterator[str]:
    for field, neutral in _NEUTRAL.items():
        value = values.get(field)
        if not any(value is usual or (isinstance(value, str) and value == usual) for usual in neutral):
            yield f"{field}:{value[:40]}" if isinstance(value, str) else field


def _plugins(plugins: object) -> Iterator[str]:
    if plugins is None:
        return
    for plugin in plugins if isinstance(plugins, list) else [plugins]:
        if not isinstance(plugin, dict):
            yield "unknown"
        elif plugin.get("enabled") is not False:
            yield str(plugin.get("id"))[:40]


def read_passes(values: dict[str, object]) -> int:
    """Return how often the whole input may be read: once more when the provider may compact it first."""
    management = values.get("context_management")
    edits = management.get("edits") if isinstance(management, dict) else management
    kinds = [edit.get("type") for edit in edits if isinstance(edit, dict)] if isinstance(edits, list) else []
    return 2 if any(isinstance(kind, str) and kind.startswith("compact") for kind in kinds) else 1


def read_other_models(values: dict[str, object], model: str, tools: Sequence[ServerTool]) -> tuple[str, ...]:
    """Return the models that may answer beside or instead of `model`, each once, in the order of the body."""
    named = [name for field in ("models", "fallbacks") for name in _models(values.get(field))]
    named.extend(tool.model for tool in tools if tool.model is not None)
    return tuple(dict.fromkeys(name for name in named if name != model))


def _models(listed: object) -> Iterator[str]:
    for entry in listed if isinstance(listed, list) else ():
        name = entry.get("model") if isinstance(entry, dict) else entry
        if isinstance(name, str):
            yield name
