"""Modes and further models that a body asks for and that token prices alone do not cover."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from metering.server_tools import OUTPUT_LIMIT_MAX

# Values of a field that change no price; any other value is a feature of its own.
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "background": (None, False),
    "route": (None, "fallback"),
    "preset": (None,),
    "web_search_options": (None,),
    "thread": (None,),  # a conversation that Anthropic holds: whose it is, and how long, nobody here knows
    "billing_policy": (None,),
}
# Members of objects at the top that choose a price, or name what only the provider has, and the values that do neither.
_NESTED_NEUTRAL: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    "diagnostics": {"previous_message_id": (None,)},
    "prompt_cache_options": {"ttl": (None, "30m")},
    "provider": {"only": (None,), "order": (None,), "sort": (None, "price")},  # OpenRouter's upstreams, each at a price of its own
}
# Claude from its fifth generation on thinks where it is not told otherwise.
_THINKS_UNASKED = re.compile(r"claude-[a-z]+-(?:[5-9]|\d\d)")
# Fields whose values are priced like service tiers, under the name that the usage of the answer gets too.
_TIER_FIELDS: Mapping[str, tuple[str, tuple[object, ...]]] = {
    "speed": ("speed", (None, "", "standard", "default")),
    "inference_geo": ("geo", (None, "", "global", "not_available")),
}


# What nearly no body has: where none of them stands, there is nothing to read.
_MODES = frozenset({*_NEUTRAL, *_NESTED_NEUTRAL, "plugins", "modalities", "audio", "fallbacks"})
_THINKING = frozenset({"thinking", "reasoning", "reasoning_effort", "include_reasoning"})
_TELLS_OF_THINKING = ("thinking", "reasoning", "reasoning_effort")
_NONE: frozenset[str] = frozenset()


def read_features(values: dict[str, object], *, audio_input: bool) -> frozenset[str]:
    """Return the names of the modes of a body that token prices do not cover, such as `background` or `plugin:web`."""
    if not audio_input and _MODES.isdisjoint(values):
        return _NONE
    found = {*_unusual_values(values), *_unusual_members(values)}
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
        if field in values and not _is_usual(value := values[field], neutral):
            yield f"{field}:{value[:40]}" if isinstance(value, str) else field


def _unusual_members(values: dict[str, object]) -> Iterator[str]:
    for field, members in _NESTED_NEUTRAL.items():
        nested = values.get(field)
        if isinstance(nested, dict):
            yield from (f"{field}.{name}" for name, neutral in members.items() if not _is_usual(nested.get(name), neutral))
    fallbacks = values.get("fallbacks")
    # An entry may set a limit, thinking or a speed for its own attempt; another form lets the provider choose the model.
    if fallbacks is not None and not (isinstance(fallbacks, list) and all(isinstance(entry, str) or _names_a_model(entry) for entry in fallbacks)):
        yield "fallbacks"


def _names_a_model(entry: object) -> bool:
    return isinstance(entry, dict) and entry.keys() == {"model"}


def _is_usual(value: object, neutral: tuple[object, ...]) -> bool:
    """Compare by identity first: 0 equals False, but says something else."""
    return any(value is usual or (isinstance(value, str) and value == usual) for usual in neutral)


def _plugins(plugins: object) -> Iterator[str]:
    if plugins is None:
        return
    for plugin in plugins if isinstance(plugins, list) else [plugins]:
        if not isinstance(plugin, dict):
            yield "unknown"
        elif plugin.get("enabled") is not False:
            yield str(plugin.get("id"))[:40]


def read_tiers(values: dict[str, object], service_tier: str | None) -> tuple[str, ...]:
    """Return the names under which the rate card prices the whole request higher or lower, such as `flex` or `geo_us`."""
    if service_tier is None and _TIER_FIELDS.keys().isdisjoint(values):
        return ()
    named = [service_tier] if service_tier is not None else []
    for field, (prefix, neutral) in _TIER_FIELDS.items():
        if field in values and not _is_usual(value := values[field], neutral):
            named.append(f"{prefix}_{str(value)[:40]}")
    return tuple(named)


def read_unseen(values: dict[str, object], model: str) -> int:
    """Return the most tokens that a model may think before a stream shows how many they were, no more than its output limit.

    Claude shows a summary of its thinking at most, also where others serve it; other models hide theirs where they are asked to.
    """
    if _thinks_unasked(model) and all(values.get(name) is None for name in _TELLS_OF_THINKING):
        return OUTPUT_LIMIT_MAX
    if _THINKING.isdisjoint(values):
        return 0
    unseen = _thinking_tokens(values["thinking"]) if "thinking" in values else 0
    reasoning, effort = values.get("reasoning"), values.get("reasoning_effort")
    hides = values.get("include_reasoning") is False or (isinstance(reasoning, dict) and reasoning.get("exclude") is True)
    if "claude" in model.lower() or hides:
        unseen = max(unseen, _reasoning_tokens(reasoning), OUTPUT_LIMIT_MAX if hides or effort not in (None, "none") else 0)
    return unseen


@lru_cache(maxsize=1024)
def _thinks_unasked(model: str) -> bool:
    return _THINKS_UNASKED.search(model.lower().replace(".", "-")) is not None


def _thinking_tokens(thinking: object) -> int:
    """Return the budget that Anthropic's format gives to thinking; a kind without one, or of an unknown form, may take all there is."""
    if thinking is None:
        return 0
    if not isinstance(thinking, dict):
        return OUTPUT_LIMIT_MAX
    return 0 if thinking.get("type") == "disabled" else _tokens(thinking.get("budget_tokens"))


def _reasoning_tokens(reasoning: object) -> int:
    """Return the same for OpenRouter's format."""
    if not isinstance(reasoning, dict) or reasoning.get("enabled") is False or reasoning.get("effort") == "none":
        return 0
    return _tokens(reasoning.get("max_tokens"))


def _tokens(budget: object) -> int:
    return budget if type(budget) is int and 0 <= budget <= OUTPUT_LIMIT_MAX else OUTPUT_LIMIT_MAX


def read_passes(values: dict[str, object]) -> int:
    """Return how often the whole input may be read: once more when the provider may compact it first."""
    if "context_management" not in values:
        return 1
    management = values["context_management"]
    edits = management.get("edits") if isinstance(management, dict) else management
    kinds = [edit.get("type") for edit in edits if isinstance(edit, dict)] if isinstance(edits, list) else []
    return 2 if any(isinstance(kind, str) and kind.startswith("compact") for kind in kinds) else 1


def read_fallbacks(values: dict[str, object], model: str) -> tuple[str, ...]:
    """Return the models that may answer instead of `model`, each once, in the order of the body."""
    if "models" not in values and "fallbacks" not in values:
        return ()
    named = [name for field in ("models", "fallbacks") for name in _models(values.get(field))]
    return tuple(dict.fromkeys(name for name in named if name != model))


def _models(listed: object) -> Iterator[str]:
    for entry in listed if isinstance(listed, list) else ():
        name = entry.get("model") if isinstance(entry, dict) else entry
        if isinstance(name, str):
            yield name
