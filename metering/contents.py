"""What a body's contents may count for as input: text, images, audio, files, references.

One walk over the messages, without recursion (a body may be nested as deeply as a parser allows)
and without the parts that are plain data to the provider, such as tool schemas.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from metering.references import REFERENCES_MAX, REFERRING, InvalidReference, StoredReference, item_reference, read_member

Node = dict[str, object]
Container = Node | list[object]

_CONTAINERS = (dict, list)
# Members that are looked at wherever they stand.
_TELLING = frozenset({"cache_control", "caching", *REFERRING})
# Parts whose keys are the caller's own words, not the provider's.
_OPAQUE = frozenset({
    "input_schema", "parameters", "schema", "metadata", "response_format", "client_metadata", "logit_bias", "output_schema", "input_examples",
    "annotations", "citations",
})  # fmt: skip
# The names that lead to what providers read as content. Elsewhere an object that looks like an image may
# be put before the model as text, so nothing is taken off its bytes there.
_CONTENT = frozenset({"messages", "input", "system", "content", "output", "source"})


@dataclass(slots=True)
class ContentScan:
    """What the walk has found so far.

    `media_bytes` are characters of base64 that are no text. `files` tells that a file is inlined or
    referred to. `remote` tells that only the context window bounds the input. `tools` are those that an item brings to the model.
    """

    media_bytes: int = 0
    images: int = 0
    audio_bytes: int = 0
    files: bool = False
    remote: bool = False
    cache_write: set[str] = field(default_factory=set)
    tools: list[object] = field(default_factory=list)
    references: list[StoredReference] = field(default_factory=list)
    sealed: list[StoredReference] = field(default_factory=list)

    def refer(self, found: StoredReference | None, *, sealed: bool = False) -> None:
        """Keep a reference.

        Raises:
            InvalidReference: there are more than anybody needs.
        """
        if found is not None:
            if len(self.references) + len(self.sealed) >= REFERENCES_MAX:
                raise InvalidReference(found.field, f"makes more than {REFERENCES_MAX} references to stored objects")
            (self.sealed if sealed else self.references).append(found)


def scan_contents(values: Node) -> ContentScan:
    """Walk everything in a request's body that a provider reads as content.

    Raises:
        InvalidReference: what should name a stored object is no id.
    """
    scan = ContentScan()
    others = _walk([values], scan, within=_CONTENT)
    if not others:
        _inspect_items(values.get("input"), scan)
        return scan
    aside = ContentScan()
    _walk(others, aside, within=None)
    _inspect_items(values.get("input"), scan)
    scan.images += aside.images
    scan.audio_bytes += aside.audio_bytes
    scan.files |= aside.files
    scan.remote |= aside.remote
    scan.cache_write |= aside.cache_write
    scan.tools += aside.tools
    scan.references += aside.references
    scan.sealed += aside.sealed
    return scan


def _walk(stack: list[Container], scan: ContentScan, *, within: frozenset[str] | None) -> list[Container]:
    """Inspect every object that can be reached by names `within`; return the parts below other names.

    Most objects are text and count by their bytes alone: a long conversation has thousands of them, so each costs few steps.
    """
    others: list[Container] = []
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += [part for part in node if isinstance(part, _CONTAINERS)]
            continue
        skipped = None
        if isinstance(kind := node.get("type"), str):
            if kind in _HANDLERS:
                _HANDLERS[kind](node, scan)
            skipped = "input" if kind.endswith("tool_use") else None
        if not _TELLING.isdisjoint(node):
            _inspect_members(node, scan)
        for name, part in node.items():
            if isinstance(part, _CONTAINERS) and name not in _OPAQUE and name != skipped:
                (stack if within is None or name in within else others).append(part)
    return others


def _inspect_members(node: Node, scan: ContentScan) -> None:
    """Keep which lifetime in the cache an object asks for, and what its members refer to."""
    control = node.get("cache_control", node.get("caching"))  # the latter is an advisor's
    if isinstance(control, dict):
        # A lifetime that is not known here is held at the dearest there is.
        scan.cache_write.add("5m" if control.get("ttl") in (None, "5m") else "1h")
    for name in node:
        if name in REFERRING:
            for found in read_member(node, name):
                scan.refer(found)


def _inspect_items(items: object, scan: ContentScan) -> None:
    """Find items of the Responses format that stand for something stored: an id and nothing else."""
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and "id" in item and "type" not in item and "role" not in item:
            _item(item, scan)


def _image(node: Node, scan: ContentScan) -> None:
    source = node.get("source")
    if isinstance(source, dict) and isinstance(data := source.get("data"), str):
        _count_image(data, scan)
    else:
        scan.remote = True


def _document(node: Node, scan: ContentScan) -> None:
    """Anthropic documents: text counts by its bytes, anything else may unpack to any length."""
    source = node.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    if kind not in {"text", "content"}:
        scan.files = scan.remote = True
        if isinstance(source, dict) and isinstance(data := source.get("data"), str):
            scan.media_bytes += len(data)


def _image_address(node: Node, scan: ContentScan) -> None:
    """OpenAI images: an address, inline or remote, or a file's id."""
    address = node.get("image_url")
    if isinstance(address, dict):
        address = address.get("url")
    if isinstance(address, str) and address.startswith("data:image/"):
        _count_image(address, scan)
    else:
        scan.remote = True


def _count_image(data: str, scan: ContentScan) -> None:
    scan.images += 1
    scan.media_bytes += len(data)


def _audio(node: Node, scan: ContentScan) -> None:
    audio = node.get("input_audio")
    data = audio.get("data") if isinstance(audio, dict) else None
    if isinstance(data, str):
        scan.audio_bytes += len(data)
        scan.media_bytes += len(data)
    else:
        scan.audio_bytes += 1
        scan.remote = True


def _file(_node: Node, scan: ContentScan) -> None:
    """Files of the OpenAI formats, inline or not: a compressed page may hold any amount of text."""
    scan.files = scan.remote = True


def _tools(node: Node, scan: ContentScan) -> None:
    """Items of the Responses format that bring tools."""
    tools = node.get("tools")
    scan.tools += tools if isinstance(tools, list) else []


def _tool_definition(node: Node, scan: ContentScan) -> None:
    """A tool that an Anthropic message brings."""
    scan.tools.append(node.get("definition"))


def _remote(_node: Node, scan: ContentScan) -> None:
    scan.remote = True


def _item(node: Node, scan: ContentScan) -> None:
    scan.remote = True
    scan.refer(item_reference(node))


def _sealed(node: Node, scan: ContentScan) -> None:
    """Items that either carry their content in sealed form, or refer to what the provider stored."""
    if not isinstance(node.get("encrypted_content"), str):
        scan.remote = True
        scan.refer(item_reference(node), sealed=True)


def _generated_image(node: Node, scan: ContentScan) -> None:
    if isinstance(result := node.get("result"), str):
        _count_image(result, scan)
    else:
        _item(node, scan)


_HANDLERS: dict[str, Callable[[Node, ContentScan], None]] = {
    "image": _image,
    "document": _document,
    "container_upload": _remote,
    "image_url": _image_address,
    "input_image": _image_address,
    "computer_screenshot": _image_address,
    "input_audio": _audio,
    "file": _file,
    "input_file": _file,
    "video_url": _remote,
    "input_video": _remote,
    "item_reference": _item,
    "reasoning": _sealed,
    "additional_tools": _tools,
    "tool_search_output": _tools,
    "tool_definition": _tool_definition,
    "image_generation_call": _generated_image,
}
