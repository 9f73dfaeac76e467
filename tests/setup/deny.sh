#!/usr/bin/env bash
# Judges what is depended on by deny.toml: licences, bans, sources; and advisories, whose database is fetched each time.
# Where that cannot be reached, the rest is judged all the same, and it is said that the advisories were not.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_rust

export PATH=$PWD/.tools/bin:$PATH
if ! command -v cargo-deny >/dev/null 2>&1; then
  say "installing cargo-deny into .tools/: this compiles for some minutes, once"
  cargo install --locked --quiet --root .tools cargo-deny
fi

cargo deny --locked check bans licenses sources
if fetched=$(timeout 120 cargo deny --locked fetch db 2>&1); then
  cargo deny --locked check advisories
else
  printf '%s\n' "$fetched" | tail -3 >&2
  say "advisories were NOT judged: their database cannot be fetched from here; run \`make deny\` where it can"
fi
