#!/usr/bin/env bash
# Fetches the npm packages that the tests use, by the Node in .venv, as tests/clients/node/package-lock.json has them.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
[ -x .venv/bin/npm ] || fail "\`.venv/bin/npm\` is missing: run tests/setup/venv.sh"

say "installing the tests' npm packages into tests/clients/node/node_modules/"
# npm itself is started by the Node it finds first; none of the packages needs a script to be run.
export PATH="$PWD/.venv/bin:$PATH"
npm ci --prefix tests/clients/node --ignore-scripts --silent || fail "npm cannot install what tests/clients/node/package-lock.json names"
# Last: this file tells `make` that all is there.
touch tests/clients/node/node_modules/.package-lock.json
