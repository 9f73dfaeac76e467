#!/usr/bin/env bash
# peer-python.sh NAME: makes .tools/peers/NAME, a Python venv with a peer that `make bench-proxy` compares with:
# litellm or headroom, as tests/setup/peers/NAME.txt pins them.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_pip
peer=$1 home=.tools/peers/$1

say "installing $peer into $home/: this takes a minute"
mkdir -p .tools/peers
# Without a pip of its own: Debian's python3 lacks ensurepip, and the outer pip installs into it as well.
python3 -m venv --clear --without-pip "$home" || fail "python3 has no venv module: install it (Debian: apt-get install python3-venv)"
python3 -m pip --python "$home/bin/python" install --quiet --require-hashes --prefer-binary \
  --requirement "tests/setup/peers/$peer.txt"
touch "$home/.ready"
