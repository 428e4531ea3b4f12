"""The operator's second terminal."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from cli.main import main


@dataclass
class Terminal:
    """Commands run in this process: starting one takes longer than its work."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def call(self, *arguments: str) -> tuple[int, str, str]:
        try:
            main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        else:
            code = 0
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def run(self, *arguments: str) -> str:
        code, output, errors = self.call(*arguments)
        assert code == 0, output + errors
        return output

    def ask(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def failure(self, *arguments: str) -> str:
        """Run a command that must fail, and return its one line."""
        code, output, errors = self.call(*arguments)
        assert code == 1, output + errors
        assert output == ""
        assert errors.startswith("level5: ")
        assert len(errors.splitlines()) == 1, errors
        return errors
