"""What the forms of the page of keys post."""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from control.schemas import Question
from ledger.account_values import NAME_LENGTH_MAX

WISH_CHARACTERS: Final = 32
PAGES_MAX: Final = 1000
Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=NAME_LENGTH_MAX)]
Wish = Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{WISH_CHARACTERS}}}$")]


class TokenForm(Question):
    """A further api_token. `wish` is the form's own: sent twice, it makes one."""

    token_name: Name | None = None
    scope: Literal["full", "read_only"] = "full"
    wish: Wish


class RotateForm(Question):
    """A token in the place of another one."""

    wish: Wish


class KeyForm(Question):
    """A further ingest key."""

    key_name: Name | None = None
    wish: Wish


class BudgetForm(Question):
    """What a workspace is meant to cost a month; left empty, nothing in particular."""

    budget: Annotated[str, Field(max_length=40)] | None = None
    page: Annotated[int, Field(ge=1, le=PAGES_MAX)] = 1


class NothingForm(Question):
    """A form that only confirms."""


class KeysQuery(Question):
    """What the address of the page may say."""

    done: Annotated[str, Field(max_length=20)] | None = None
    page: Annotated[int, Field(ge=1, le=PAGES_MAX)] = 1
