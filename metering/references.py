"""References in a body to objects that the provider keeps: answers, files, conversations, containers.

All accounts share the operator's account at the provider, so such an id must never be taken for a right:
whoever learned it could have another customer's data read to him. What is found here is forwarded only where
the account that asks is known to have made the object.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

NAME_CHARACTERS_MAX = 200
REFERENCES_MAX = 4096  # a long conversation that is sent item by item; what a script can take


class StoredKind(StrEnum):
    """What a reference names."""

    RESPONSE = "response"
    ITEM = "item"
    CONTAINER = "container"
    CONVERSATION = "conversation"
    PROMPT = "prompt"
    FILE = "file"
    VECTOR_STORE = "vector_store"
    SKILL = "skill"
    AUDIO = "audio"


# What answers make, and the gateway therefore knows. Nobody can make any of the others here.
MADE_BY_ANSWERS = frozenset({StoredKind.RESPONSE, StoredKind.ITEM, StoredKind.CONTAINER})
# Members of nested objects that name an object, wherever they stand: a kind of content that is not known yet is covered too.
REFERRING = {
    "file_id": StoredKind.FILE,
    "file_ids": StoredKind.FILE,
    "container": StoredKind.CONTAINER,
    "container_id": StoredKind.CONTAINER,
    "vector_store_ids": StoredKind.VECTOR_STORE,
    "skill_id": StoredKind.SKILL,
    "audio": StoredKind.AUDIO,
}


@dataclass(frozen=True, slots=True)
class StoredReference:
    """One object that a body refers to. `field` is the member that names it."""

    kind: StoredKind
    identity: str
    field: str


class InvalidReference(ValueError):
    """A reference is not of the form that any provider takes; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def read_top(values: dict[str, object]) -> Iterator[StoredReference]:
    """Yield what the members of the body itself refer to.

    Raises:
        InvalidReference: such a member is no id.
    """
    for field, kind in (("previous_response_id", StoredKind.RESPONSE), ("conversation", StoredKind.CONVERSATION)):
        if values.get(field) is not None:
            yield _reference(kind, field, values[field])
    options = values.get("prompt_cache_options")
    if isinstance(options, dict) and options.get("comparison_response_id") is not None:
        yield _reference(StoredKind.RESPONSE, "comparison_response_id", options["comparison_response_id"])
    prompt = values.get("prompt")
    if isinstance(prompt, dict):  # a text is one, and refers to nothing
        yield _reference(StoredKind.PROMPT, "prompt", prompt)


def read_member(node: dict[str, object], name: str) -> Iterator[StoredReference]:
    """Yield what one member of any object refers to; `name` is one of REFERRING.

    Raises:
        InvalidReference: it is no id.
    """
    kind, value = REFERRING[name], node[name]
    if kind is StoredKind.SKILL and node.get("type") == "anthropic":
        return  # the provider's own, the same for everybody
    if name in ("container", "audio") and isinstance(value, dict) and value.get("id") is None:
        return  # describes what is to be made; what it refers to stands in members of its own
    if kind is StoredKind.AUDIO and not isinstance(value, dict):
        return
    listed = value if isinstance(value, list) else [value] if value is not None else []
    for one in listed:
        yield _reference(kind, name, one)


def item_reference(node: dict[str, object]) -> StoredReference | None:
    """Return what an item without content refers to, None where it has no id.

    Raises:
        InvalidReference: its id is none.
    """
    return _reference(StoredKind.ITEM, "input", node) if node.get("id") is not None else None


def _reference(kind: StoredKind, field: str, value: object) -> StoredReference:
    identity = value.get("id") if isinstance(value, dict) else value
    if not isinstance(identity, str) or not 0 < len(identity) <= NAME_CHARACTERS_MAX or not identity.isprintable():
        raise InvalidReference(field, f"must be an id of 1 to {NAME_CHARACTERS_MAX} printable characters")
    return StoredReference(kind, identity, field)
