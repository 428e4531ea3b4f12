"""Changing a request's body where it must be changed, and nowhere else.

Bytes are spliced into the client's own text: what is not changed keeps its spelling, order and
spaces, so that the provider reads the same request, and its prompt cache the same prefix.
"""

import json

from metering.json_text import read_object
from metering.requests import MeteredRequest

_ASK_FOR_USAGE = b'{"include_usage":true}'


def rewrite_body(request: MeteredRequest, *, provider_model: str | None, include_usage: bool, output_limit: int | None) -> bytes:
    """Return the body to send: the very same bytes where nothing has to change.

    `provider_model` replaces the model's name, `include_usage` asks for the usage of a stream (other stream
    options stay), `output_limit` is put where the operation takes it, unless it takes none. What a value stood
    in before is replaced in place; what is new goes to the end.
    """
    changes: dict[str, bytes] = {}
    if provider_model is not None and provider_model != request.model:
        changes["model"] = _written(provider_model)
    if include_usage and not request.wants_usage:
        changes["stream_options"] = _with_usage(request)
    if output_limit is not None and request.output_limit_field is not None:
        changes[request.output_limit_field] = b"%d" % output_limit
    return _splice(request, changes) if changes else request.body


def _splice(request: MeteredRequest, changes: dict[str, bytes]) -> bytes:
    layout, body = request.layout, request.body
    pieces, position = [], 0
    replaced = sorted((layout.spans[name], value) for name, value in changes.items() if name in layout.spans)
    for (begin, end), value in replaced:
        pieces += [body[position:begin], value]
        position = end
    pieces.append(body[position : layout.closing])
    added = [_written(name) + b":" + value for name, value in changes.items() if name not in layout.spans]
    if added:
        pieces.append((b"" if layout.empty else b",") + b",".join(added))
    pieces.append(body[layout.closing :])
    return b"".join(pieces)


def _with_usage(request: MeteredRequest) -> bytes:
    """Return the stream options with `include_usage` true and all else as it was written."""
    span = request.layout.spans.get("stream_options")
    text = request.body[slice(*span)].decode() if span is not None else "null"
    if text == "null":
        return _ASK_FOR_USAGE
    options = read_object(text)
    if "include_usage" in options.spans:
        begin, end = options.spans["include_usage"]
        return f"{text[:begin]}true{text[end:]}".encode()
    separator = "," if options.values else ""
    return f'{text[: options.closing]}{separator}"include_usage":true{text[options.closing :]}'.encode()


def _written(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()
