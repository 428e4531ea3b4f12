"""A recipe as people read it: the same blocks for a terminal, for Markdown and for a page."""

from collections.abc import Iterator
from dataclasses import dataclass

from config.clients.connection import Connection
from config.clients.recipes import Program, Recipe
from config.clients.writing import write_exports, write_file


@dataclass(frozen=True, slots=True)
class Block:
    """One paragraph, or one piece to be copied; `language` is None for prose."""

    text: str
    language: str | None = None


def fetch_certificate(connection: Connection) -> str:
    """Return the command that puts the forward door's certificate where the recipes expect it."""
    return f"curl -fsS --create-dirs -o {connection.ca_file} {connection.origin}/ca.pem"


def blocks(recipe: Recipe, connection: Connection) -> tuple[Block, ...]:
    """Return what to do, in order."""
    return tuple(_blocks(recipe, connection))


def _blocks(recipe: Recipe, connection: Connection) -> Iterator[Block]:
    if recipe.needs_certificate:
        yield Block("Fetch the certificate of the proxy, once:")
        yield Block(fetch_certificate(connection), "sh")
    for file in recipe.files:
        yield Block(f"In {file.place}:")
        yield Block(write_file(file).rstrip("\n"), file.format.value)
    if recipe.environment:
        yield Block("In the shell that starts it:")
        yield Block(write_exports(recipe.environment).rstrip("\n"), "sh")
    if recipe.by_hand:
        yield Block("\n".join(f"{number}. {step}" for number, step in enumerate(recipe.by_hand, 1)))
    if recipe.program is not None:
        yield from _program_blocks(recipe.program)
    if recipe.try_it is not None:
        yield Block("Try it:")
        yield Block(recipe.try_it, "sh")
    if recipe.notes:
        yield Block("\n".join(f"- {note}" for note in recipe.notes))


def _program_blocks(program: Program) -> Iterator[Block]:
    file = program.run.split()[-1]
    yield Block(f"A first program, {file}:")
    yield Block(program.text.rstrip("\n"), program.language)
    yield Block("Try it:")
    yield Block(f"{program.install}\n{program.run}", "sh")


def as_terminal(recipe: Recipe, connection: Connection) -> str:
    """Return a recipe for a terminal: pieces to be copied stand at the margin, as they are."""
    how = f"through the forward proxy {connection.forward}" if connection.by_proxy else f"by the base URL {connection.origin}"
    parts = [f"{recipe.title}, {how}", *(block.text for block in blocks(recipe, connection))]
    return "\n\n".join(parts) + "\n"


def as_markdown(recipe: Recipe, connection: Connection) -> str:
    """Return a recipe without its title, for a page of documentation."""
    return "\n\n".join(block.text if block.language is None else f"```{block.language}\n{block.text}\n```" for block in blocks(recipe, connection)) + "\n"
