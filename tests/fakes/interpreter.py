"""How tests start the product's processes: as they run for an operator, or with LEVEL5_TEST_PLAIN=1 all of them with their assertions.

Run as a script, it is `level5` with such roles.
"""

import os
import sys
from typing import Final

IS_PLAIN: Final = os.environ.get("LEVEL5_TEST_PLAIN") == "1"


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs one process."""
    return [sys.executable, *(() if IS_PLAIN else ("-O",)), "-m", module, *arguments]


def level5_command(*arguments: str) -> list[str]:
    """Return the command that runs `level5`, which starts others."""
    return [sys.executable, *(("-P", __file__) if IS_PLAIN else ("-m", "cli.main")), *arguments]


def _run() -> None:
    from cli import appliance, main, role_commands

    optimised = appliance.role_command
    appliance.role_command = role_commands.role_command = lambda role: [word for word in optimised(role) if word != "-O"]
    main.main(sys.argv[1:])


if __name__ == "__main__":
    _run()
