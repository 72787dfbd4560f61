#!/bin/sh
# install.sh cpu|gpu: a virtual environment in /opt/gputape with the locked dependencies, every file checked by its hash.
set -eu
venv=${VENV:-/opt/gputape}

python3 -m venv "$venv"
"$venv/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --only-binary=:all: --require-hashes \
    -r "$(dirname "$0")/requirements-$1.lock"
if [ "$1" = gpu ]; then # at a path that does not depend on the Python version
    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    ln -s "$packages/triton/backends/nvidia/bin/ptxas" "$venv/bin/ptxas"
fi
