"""Import this before anything else in a program: what is imported then takes a fifth less time.

structlog does not find rich, which it would import for tracebacks in colours, and which commands need for their help alone, nor greenlet, of which
there are none here. And the garbage collector does not look again and again through modules that stay.
"""

import telemetry.lean_end  # noqa: F401  # the first, so that what it does at the end is the last

# isort: split

import gc
import sys
from typing import Final

GC_THRESHOLDS: Final = (50_000, 20, 50)  # finished requests leave no cycles behind either, so that there is little to look for

gc.set_threshold(*GC_THRESHOLDS)
_NOT_FOUND: Final = [name for name in ("rich", "greenlet") if name not in sys.modules]
for _name in _NOT_FOUND:
    sys.modules[_name] = None  # type: ignore[assignment]  # Python's own way to say that a module is not there
import structlog  # noqa: E402, F401

for _name in _NOT_FOUND:
    del sys.modules[_name]
