#!/bin/sh
# The compiler for this workspace's own crates, as cargo's RUSTC_WORKSPACE_WRAPPER: with libFuzzer's coverage, which the
# stable compiler can do without a sanitizer (there is next to no unsafe code for one to watch).
exec "$@" -Cpasses=sancov-module -Ccodegen-units=1 -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares
