#!/bin/sh
# smoke.sh cpu|gpu: the finished image, as its user: no root, no compiler, and it trains.
set -eu

fail() {
    echo "smoke: $*" >&2
    exit 1
}

[ "$(id -u)" -ne 0 ] || fail "runs as root"
for tool in cc gcc g++ c++ clang nvcc make; do
    ! command -v "$tool" >/dev/null || fail "$tool is in the image"
done
gputape doctor
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
gputape train digits-mlp --steps 20 --no-progress --device cpu --out "$out/run"
[ -s "$out/run/model.safetensors" ] || fail "training left no weights"
if [ "$1" = gpu ]; then
    found=$(ls "$GPUTAPE_CACHE_DIR"/cubin/*.cubin | wc -l)
    [ "$found" -gt 0 ] || fail "no kernel is precompiled"
    [ -w "$GPUTAPE_CACHE_DIR/cubin" ] || fail "the kernel cache cannot be written"
    echo "smoke: $found precompiled kernels"
fi
