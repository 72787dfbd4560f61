#!/bin/sh
# warmup.sh ARCH…: compiles the kernels for these architectures into $GPUTAPE_CACHE_DIR. Needs no GPU.
set -eu
venv=${VENV:-/opt/gputape}
TRITON_CACHE_DIR=$(mktemp -d) # Triton's own copies are not kept
TRITON_DISABLE_LINE_INFO=1 # for profilers only, and more than half of a cubin
export TRITON_CACHE_DIR TRITON_DISABLE_LINE_INFO
trap 'rm -rf "$TRITON_CACHE_DIR"' EXIT

"$venv/bin/gputape" warmup --arch "$@"
