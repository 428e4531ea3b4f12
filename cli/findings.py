"""What `level5 doctor` finds."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was asked, and the answer. A fault keeps the appliance from working or the books from being right."""

    what: str
    state: Literal["ok", "warning", "fault"]
    text: str
