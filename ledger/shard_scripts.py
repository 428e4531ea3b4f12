"""The scripts that change a shard in Redis, and the names of its keys."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# These run on a shard that is closed or missing; all others are spliced with the prelude.
WITHOUT_PRELUDE = frozenset({"open_shard", "close_shard", "add_activity"})


@lru_cache
def meta_key(shard: int) -> str:
    """Return the one key that is handed to every script of a shard; scripts derive the others from it."""
    return f"l5:{{{shard}}}:meta"


def outbox_key(shard: int) -> str:
    """Return the key of the shard's outbox; it outlives epochs."""
    return f"l5:{{{shard}}}:out"


def epoch_prefix(shard: int, epoch: int) -> str:
    """Return what all keys of one epoch of a shard begin with."""
    return f"l5:{{{shard}}}:e{epoch}:"


@dataclass(frozen=True, slots=True)
class Script:
    """A script with its prelude spliced in, and the digest that Redis knows it by."""

    name: str
    source: str
    digest: str
    writes: bool


def read_scripts() -> dict[str, Script]:
    """Read all scripts; the flags stay on the first line, where Redis wants them."""
    folder = Path(__file__).with_name("scripts")
    prelude = (folder / "_prelude.lua").read_text()
    scripts = {}
    for path in sorted(folder.glob("[!_]*.lua")):
        flags, body = path.read_text().split("\n", 1)
        source = f"{flags}\n{'' if path.stem in WITHOUT_PRELUDE else prelude}{body}"
        digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        scripts[path.stem] = Script(path.stem, source, digest, "no-writes" not in flags)
    return scripts
