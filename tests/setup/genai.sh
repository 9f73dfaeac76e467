#!/usr/bin/env bash
# Makes .tools/genai, a Python venv with onnxruntime-genai, which `make bench-engine` compares the engine with.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_linux
need_pip

say "installing onnxruntime-genai into .tools/genai/"
mkdir -p .tools
# Without a pip of its own: Debian's python3 lacks ensurepip, and the outer pip installs into it as well.
python3 -m venv --clear --without-pip .tools/genai || fail "python3 has no venv module: install it (Debian: apt-get install python3-venv)"
python3 -m pip --python .tools/genai/bin/python install --quiet --require-hashes --only-binary=:all: \
  --requirement tests/setup/genai.txt
touch .tools/genai/.ready
