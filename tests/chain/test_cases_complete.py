"""The sixty cases that the watcher must pass: each has a test here, on the simulated cluster, with its number in its name."""

import re
from pathlib import Path

CASES = 60
NAMES = re.compile(r"^(?:async )?def test_case_(\d\d(?:_and_\d\d)*)_[a-z]", re.MULTILINE)


def test_every_case_has_a_test_and_there_is_no_other() -> None:
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    numbers = {int(number) for text in texts for name in NAMES.findall(text) for number in name.split("_and_")}

    assert sorted(numbers) == list(range(1, CASES + 1))
