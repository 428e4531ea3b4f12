"""Import this before anything else: structlog then finds no rich, which it would import for tracebacks in colours. A role's log has none."""

import sys

sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # Python's own way to say that a module is not there
