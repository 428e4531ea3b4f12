"""What an operator does by a command leaves a line in the audit, as what is done in the console does: noted before it is done, or it is not done.

Whoever may run a command here has the database anyway: the line says what was asked for, when, and as which user of the machine.
"""

import os
import pwd
from typing import Final

from cli.books import Books
from ledger.organisations import note_action

COMMAND_LINE: Final = "command line"  # who acts, for the audit; the user of the machine stands beside it
NAME_LENGTH_MAX: Final = 80


async def note(books: Books, action: str, /, **detail: object) -> None:
    """Note what is about to be done, under the name that the console has for it.

    Raises:
        JournalUnavailable: Postgres did not answer, so nothing is to be done.
    """
    await note_action(books.pool, actor=COMMAND_LINE, action=action, detail={**typed_by(), **detail})


def typed_by() -> dict[str, object]:
    """Return who types this command, and who became that user where sudo says so."""
    before = os.environ.get("SUDO_USER", "")[:NAME_LENGTH_MAX]
    return {"user": user_name(), **({"sudo_user": before} if before and before.isprintable() else {})}


def user_name() -> str:
    """Return the owner of this process, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name[:NAME_LENGTH_MAX]
    except KeyError:
        return f"uid {os.getuid()}"
