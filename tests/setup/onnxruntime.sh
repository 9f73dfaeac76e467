#!/usr/bin/env bash
# Unpacks ONNX Runtime's shared libraries from its Python wheel into .runtime/.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_linux
need_pip

# The library is the same in the wheels of all Python versions: one is pinned, whatever python3 is.
say "fetching ONNX Runtime into .runtime/"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: \
  --implementation cp --python-version 3.11 --abi cp311 --platform "manylinux_2_28_$(uname -m)" \
  --dest "$work" --requirement tests/setup/onnxruntime.txt
python3 -m zipfile -e "$work"/onnxruntime-*.whl "$work/wheel"

mkdir -p .runtime
mv "$work"/wheel/onnxruntime/capi/libonnxruntime_providers_shared.so .runtime/
# Last: this file tells `make` that all is there.
mv "$work"/wheel/onnxruntime/capi/libonnxruntime.so.* .runtime/libonnxruntime.so
touch .runtime/libonnxruntime.so
