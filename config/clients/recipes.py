"""What connecting one client consists of: files of its own, variables, a program to start from, and what to know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

type Value = str | int | bool | Sequence[Value] | Mapping[str, Value]


class FileFormat(StrEnum):
    """How a client's file is written; the value is what a code block of it is called."""

    JSON = "json"
    TOML = "toml"
    YAML = "yaml"
    SHELL = "sh"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFile:
    """What has to stand in one file. Everything else in it stays.

    `path` is below `folder`, which is `mac_folder` on a Mac where the client differs there; `variable` names the client's own
    variable that moves this folder elsewhere, where it has one.
    Mappings are merged member by member, lists item by item: an item takes the place of the one with the same `model_id`, or
    with the same name before its equals sign.
    """

    folder: str  # "~/.codex"
    path: str  # "config.toml"
    format: FileFormat
    values: Value
    variable: str | None = None
    mac_folder: str | None = None

    @property
    def place(self) -> str:
        return f"{self.folder}/{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A first program: whole, so that it can be pasted and run."""

    language: str  # "python" or "javascript"
    text: str
    install: str
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one client is connected. `environment` is what has to be exported before the client, or its program, is started."""

    client: str
    title: str
    files: tuple[ClientFile, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    program: Program | None = None
    by_hand: tuple[str, ...] = ()  # what only a person can do, step by step
    try_it: str | None = None
    needs_certificate: bool = False  # the forward door's certificate has to lie where the recipe says
    notes: tuple[str, ...] = ()

    @property
    def can_be_written(self) -> bool:
        return not self.by_hand
