"""Values of the hot path: as unchangeable as any, where nobody pays for the proof."""

from dataclasses import dataclass
from typing import dataclass_transform


@dataclass_transform(frozen_default=True, kw_only_default=True)
def value[T: type](cls: T) -> T:
    """Make a frozen dataclass with slots, whose fields are given by name.

    Every request makes some fifteen of these with a hundred fields in all, and a frozen dataclass sets each field by a call of its own, at three
    times the price. That nobody changes them is for the type checker and the tests to find; with `-O`, which the roles run with, they are made the quick way.
    """
    return dataclass(frozen=__debug__, slots=True, kw_only=True, unsafe_hash=not __debug__)(cls)  # type: ignore[return-value]  # the class with slots
