#!/usr/bin/env bash
# Builds the fuzzer and runs each target for FUZZ_SECONDS, or those that FUZZ_TARGETS names. Only this workspace's crates
# are instrumented: what they depend on is what `make test` built. Inputs that broke one stay in target/fuzz/found.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_rust

fuzzer=target/debug/fuzz
RUSTC_WORKSPACE_WRAPPER=$PWD/tests/fuzz/rustc.sh CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_INCREMENTAL=0 \
  cargo build --locked --quiet -p plimsoll-tests --features fuzz --bin fuzz

seeds=target/fuzz/seeds
found=target/fuzz/found
rm -rf "$seeds"
mkdir -p "$seeds" "$found"
FUZZ_SEEDS=$seeds "$fuzzer" -runs=1 >/dev/null 2>&1
broken=()
for target in ${FUZZ_TARGETS:-$(cd "$seeds" && echo *)}; do
  # What an earlier run learnt is begun with.
  corpus=target/fuzz/corpus/$target
  mkdir -p "$corpus"
  say "fuzzing $target for ${FUZZ_SECONDS:=60} s"
  FUZZ_TARGET=$target "$fuzzer" -max_total_time="$FUZZ_SECONDS" -max_len=65536 -rss_limit_mb=4096 -timeout=20 \
    -dict=tests/fuzz/words.dict -artifact_prefix="$found/$target-" -verbosity=0 -print_final_stats=1 "$corpus" "$seeds/$target" >"$found/$target.log" 2>&1 ||
    broken+=("$target")
  grep -aE 'stat::(number_of_executed_units|peak_rss_mb)|ERROR|panicked|SUMMARY' "$found/$target.log" || true
done
[ ${#broken[@]} = 0 ] || fail "${broken[*]} broke: inputs and logs are in $found"
