"""Importing a part of a package without all that the package imports by itself."""

import sys
from collections.abc import Collection
from importlib import import_module
from importlib.util import find_spec, module_from_spec


def open_bare(package: str, *, whole_for: Collection[str] = ()) -> None:
    """Let parts of `package` be imported while its own `__init__` does not run; harmless where it has run already.

    Whoever asks for one of the names in `whole_for` gets the package as it is meant, from then on.
    """
    if package in sys.modules:
        return
    spec = find_spec(package)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"no package named {package!r}", name=package)
    bare, loader = module_from_spec(spec), spec.loader

    def run_whole(name: str) -> object:
        if name not in whole_for:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        del bare.__getattr__
        loader.exec_module(bare)
        return getattr(bare, name)

    bare.__getattr__ = run_whole  # type: ignore[method-assign]  # a module's own, which Python asks for what is missing
    sys.modules[package] = bare
    parent, _, part = package.rpartition(".")
    if parent:
        setattr(import_module(parent), part, bare)
