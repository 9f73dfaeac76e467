#!/usr/bin/env bash
# Makes .venv with the real SDKs and validators that the tests use.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_pip

say "installing the tests' Python packages into .venv/"
# Without a pip of its own: Debian's python3 lacks ensurepip, and the outer pip installs into it as well.
python3 -m venv --clear --without-pip .venv || fail "python3 has no venv module: install it (Debian: apt-get install python3-venv)"
python3 -m pip --python .venv/bin/python install --quiet --require-hashes --only-binary=:all: \
  --requirement tests/clients/requirements.txt
touch .venv/.ready
