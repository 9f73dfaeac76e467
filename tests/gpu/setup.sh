#!/usr/bin/env bash
# Fetches ONNX Runtime for CUDA, with NVIDIA's libraries, into .runtime-cuda: pinned, with checksums. x86_64.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/setup/lib.sh

need_linux
need_pip
target=.runtime-cuda
if [ -f "$target/libonnxruntime.so" ]; then
  say "$target is there"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say "fetching ONNX Runtime for CUDA"
python3 -m pip install --quiet --no-cache-dir --no-deps --require-hashes --only-binary=:all: \
  --target "$work" --requirement tests/setup/onnxruntime-gpu.txt
mkdir -p "$work/libraries"
find "$work/nvidia" -name '*.so.*' -exec mv -t "$work/libraries" {} +
mv "$work"/onnxruntime/capi/libonnxruntime_providers_{cuda,shared}.so "$work/libraries/"
mv "$work"/onnxruntime/capi/libonnxruntime.so.* "$work/libraries/libonnxruntime.so"
mv "$work/libraries" "$target"
