"""The client's side of a test: one process for many turns, since starting one costs more than its turns.

Each line of the input is a command: the variables that `level5 connect` said to export, and what to ask. Each line of the
output says what a user would have seen, and the error where there was one.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable


def serve(take_turn: Callable[[str, bool], str]) -> None:
    """Take turns until the input ends. `take_turn` is given the model, and whether to stream; it returns the answer's text."""
    inherited = dict(os.environ)
    output = sys.stdout
    for line in sys.stdin:
        command = json.loads(line)
        os.environ.clear()
        os.environ.update(inherited | command["environment"])
        shown, error = io.StringIO(), None
        try:
            with contextlib.redirect_stdout(shown):
                if command["program"]:
                    exec(compile(command["program"], "hello.py", "exec"), {"__name__": "__main__"})
                else:
                    shown.write(take_turn(command["model"], command["stream"]))
        except Exception as fault:
            error = f"{type(fault).__module__}.{type(fault).__name__}: {fault}"
        output.write(json.dumps({"shown": shown.getvalue(), "error": error}) + "\n")
        output.flush()
