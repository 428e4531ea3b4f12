#!/bin/sh
# Print the path of a Python that can run Level5: 3.13 before 3.12, then any newer python3.
# A name on the PATH proves nothing (pyenv leaves shims of versions that are not switched on,
# some distributions ship Python without venv), so every candidate is run.
set -u

usable() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

pyenv_versions() {
    # Newest patch release first.
    ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python3 2>/dev/null | sort -t. -k3,3nr -k4,4nr
}

for candidate in "${PYTHON:-}" python3.13 $(pyenv_versions 3.13) python3.12 $(pyenv_versions 3.12) python3; do
    if [ -n "$candidate" ] && usable "$candidate"; then
        "$candidate" -c 'import sys; print(sys.executable)'
        exit 0
    fi
done
echo "Level5 needs Python 3.12 or 3.13 with venv: install python3.13 (and python3.13-venv where it is a package of its own), or name one with make PYTHON=/path/to/python3" >&2
exit 1
