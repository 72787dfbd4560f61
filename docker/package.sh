#!/bin/sh
# package.sh: gputape itself, built from the current folder into /opt/gputape; then the installers go.
set -eu
venv=${VENV:-/opt/gputape}

"$venv/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .
"$venv/bin/python" -m compileall -q "$venv/lib"
"$venv/bin/python" -m pip uninstall -q -y setuptools pip
