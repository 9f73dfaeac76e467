#!/usr/bin/env bash
# Sees that what compiles and runs the tests is there: cargo, a C compiler, protoc, cargo-nextest.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_rust

# The OTLP receiver that the tests read traces back from compiles its protobuf files.
if ! command -v protoc >/dev/null 2>&1; then
  need apt-get "install \`protoc\`, the protobuf compiler"
  need_root apt-get install protobuf-compiler
  say "installing protobuf-compiler"
  install() { as_root apt-get install -qq -y --no-install-recommends protobuf-compiler >/dev/null; }
  # Lists that are missing or old are the usual reason for a first failure.
  install 2>/dev/null || { as_root apt-get update -qq && install; }
fi

if ! cargo nextest --version >/dev/null 2>&1; then
  say "installing cargo-nextest: this compiles for some minutes, once"
  cargo install --locked --quiet cargo-nextest
fi
