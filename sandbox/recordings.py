"""Recorded transcripts, replayed byte for byte.

A recording is a folder `provider/name` that holds `meta.json` (`status`, `response_file`,
`response_headers` as lists) and the body it names.
"""

import json
import re
from itertools import pairwise
from pathlib import Path

from sandbox.replies import Reply

NAME = re.compile(r"[a-z0-9\-]+/[A-Za-z0-9][A-Za-z0-9._\-]*")
MODEL_PREFIX = "recording:"
# Written anew by the wire: the recorded body has no transfer or content encoding any more.
FRAMING_HEADERS = frozenset({"content-length", "transfer-encoding", "content-encoding", "connection", "date"})
EVENT_END = re.compile(rb"(?:\r\n){2,}|\n{2,}|\r{2,}")


class RecordingError(Exception):
    """There is no such recording; the text says where it was looked for."""


def list_recordings(folder: Path) -> list[str]:
    """Return the names of all recordings below a folder."""
    return sorted("/".join(path.parts[-3:-1]) for path in folder.glob("*/*/meta.json"))


def load_recording(folder: Path | None, name: str) -> Reply:
    """Read one recording; an event stream is split into its events.

    Raises:
        RecordingError: no folder was given, or it has no recording of that name.
    """
    if folder is None:
        raise RecordingError("the sandbox was started without --recordings")
    if not NAME.fullmatch(name):
        raise RecordingError("a recording is named provider/name")
    place = folder / name
    try:
        meta = json.loads((place / "meta.json").read_text())
        body = (place / Path(meta["response_file"]).name).read_bytes()
    except OSError as error:
        raise RecordingError(f"there is no recording {name}") from error
    headers = tuple((key, value) for key, values in meta.get("response_headers", {}).items() if key.lower() not in FRAMING_HEADERS for value in values)
    reply = Reply(status=meta["status"], headers=headers, pieces=(body,))
    return Reply(status=meta["status"], headers=headers, pieces=_split_events(body)) if reply.streamed else reply


def _split_events(body: bytes) -> tuple[bytes, ...]:
    ends = [match.end() for match in EVENT_END.finditer(body)]
    bounds = [0, *ends] if ends and ends[-1] == len(body) else [0, *ends, len(body)]
    return tuple(body[start:end] for start, end in pairwise(bounds))
