#!/usr/bin/env bash
# Builds the fuzzer with libFuzzer's coverage, which the stable compiler can do without a sanitizer (there is next to no
# unsafe code for one to watch), and runs each target for FUZZ_SECONDS. Inputs that broke one stay in target/fuzz/found.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_rust

host=$(rustc -vV | sed -n 's/^host: //p')
# A target of its own: build scripts and macros are not instrumented.
export CARGO_TARGET_DIR=target/fuzz
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0
export RUSTFLAGS="-Cpasses=sancov-module -Ccodegen-units=1 -Cllvm-args=-sanitizer-coverage-level=4 \
 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
 -Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --locked --quiet -p plimsoll-tests --features fuzz --bin fuzz --target "$host"

fuzzer=$CARGO_TARGET_DIR/$host/debug/fuzz
corpus=$CARGO_TARGET_DIR/corpus
found=$CARGO_TARGET_DIR/found
mkdir -p "$corpus" "$found"
FUZZ_SEEDS=$corpus "$fuzzer" -runs=1 >/dev/null 2>&1
for folder in "$corpus"/*/; do
  target=$(basename "$folder")
  say "fuzzing $target for ${FUZZ_SECONDS:=60} s"
  FUZZ_TARGET=$target "$fuzzer" -max_total_time="$FUZZ_SECONDS" -max_len=65536 -rss_limit_mb=4096 -timeout=20 \
    -artifact_prefix="$found/$target-" -verbosity=0 -print_final_stats=1 "$folder" 2>&1 |
    grep -E 'stat::(number_of_executed_units|peak_rss_mb)|ERROR|panicked' || true
  [ -z "$(find "$found" -name "$target-*" -newer "$fuzzer" -print -quit)" ] || fail "$target broke: see $found"
done
