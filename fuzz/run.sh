#!/bin/sh
# Builds every fuzz target and runs each for a bounded time, starting from the committed corpus. What is found goes
# below target/ and the tree stays clean; an input that crashes a target is kept in artifacts/ and fails the run.
#   fuzz/run.sh SECONDS [TARGET...]
#   fuzz/run.sh build                only builds them
set -eu
seconds=${1:?usage: fuzz/run.sh SECONDS [TARGET...], or fuzz/run.sh build}
shift
cd "$(dirname "$0")"
targets=${*:-$(ls targets | sed 's/\.rs$//')}

# Coverage guidance on a stable compiler: LLVM's own pass, which cargo-fuzz asks for on nightly by -Zsanitizer.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target the flags spare build scripts and macros, which libFuzzer is not linked to.
cargo build --quiet --locked --release --target "$host"
[ "$seconds" = build ] && exit
built=${CARGO_TARGET_DIR:-target}/$host/release

failed=
for target in $targets; do
    found=target/found/$target
    mkdir -p "$found" "artifacts/$target"
    log=target/$target.log
    if "$built/$target" "$found" "corpus/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -max_len=65536 -use_value_profile=1 -print_final_stats=1 -artifact_prefix="artifacts/$target/" 2>"$log"; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "$target: $runs executions, no crash"
        # A target that ran nothing has shown nothing.
        [ "${runs:-0}" -gt 0 ] || failed="$failed $target"
    else
        tail -n 40 "$log"
        echo "$target: CRASH, its input is in fuzz/artifacts/$target/, its whole log in fuzz/$log"
        failed="$failed $target"
    fi
done
if [ -n "$failed" ]; then
    echo "failed:$failed"
    exit 1
fi
