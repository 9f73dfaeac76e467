#!/usr/bin/env bash
# Makes .tools/checkov, a Python venv with the judges of manifests and of the Dockerfile: checkov and hadolint.
# Apart from .venv: checkov pins versions that the SDKs do not, and is large.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_pip

say "installing checkov and hadolint into .tools/checkov/"
mkdir -p .tools
# Without a pip of its own: Debian's python3 lacks ensurepip, and the outer pip installs into it as well.
python3 -m venv --clear --without-pip .tools/checkov || fail "python3 has no venv module: install it (Debian: apt-get install python3-venv)"
python3 -m pip --python .tools/checkov/bin/python install --quiet --require-hashes --prefer-binary \
  --requirement tests/setup/checkov.txt
touch .tools/checkov/.ready
