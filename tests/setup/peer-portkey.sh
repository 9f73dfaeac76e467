#!/usr/bin/env bash
# Installs Portkey's gateway, a peer that `make bench-proxy` compares with, into .tools/peers/portkey/.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need npm "install Node.js with npm (Debian: apt-get install npm)"
home=.tools/peers/portkey

say "installing Portkey's gateway into $home/"
rm -rf "$home"
mkdir -p "$home"
cp tests/setup/peers/portkey/package.json tests/setup/peers/portkey/package-lock.json "$home"
# No script of a package runs.
(cd "$home" && npm ci --silent --no-audit --no-fund --ignore-scripts)
touch "$home/.ready"
