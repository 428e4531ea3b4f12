#!/bin/sh
# Make the environment of one Python client from its lock: make-environment.sh NAME FOLDER
# Each client has one of its own, for they pin each other's libraries. A client that runs on no Python found here
# gets a note that says so, and its tests are skipped with it.
set -eu

name=$1 folder=$PWD/$2
# From the root folder: uv would apply what pyproject.toml overrides for the gateway alone.
uv() { "$PWD/.venv/bin/uv" --directory / --quiet "$@"; }

older_python() {
    # aider runs on 3.10 to 3.12. A name on the PATH proves nothing, so every candidate is run.
    for candidate in python3.12 python3.11 python3.10 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[012].*/bin/python3 python3; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' >/dev/null 2>&1; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

case $name in
    aider) python=$(older_python) ;;
    *) python=$PWD/.venv/bin/python ;;
esac
rm -rf "$folder"
if [ -z "$python" ]; then
    mkdir -p "$folder"
    echo "no Python that $name runs on was found" | tee "$folder/missing"
else
    uv venv --no-project --python "$python" "$folder"
    uv pip install --python "$folder/bin/python" --no-deps --require-hashes --requirements "$PWD/tests/clients/requirements/$name.lock"
fi
touch "$folder/.made"
