#!/bin/sh
# lock.sh: writes the lock files again, from pyproject.toml, with the newest versions it allows. Needs uv.
set -eu
cd "$(dirname "$0")/.."

lock() { # file, then the extras
    out=$1
    shift
    python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' |
        uv pip compile pyproject.toml - "$@" --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
            --no-header --no-annotate --quiet --upgrade --output-file "docker/$out"
}
lock requirements-cpu.lock --extra train
lock requirements-gpu.lock --extra train --extra gpu
