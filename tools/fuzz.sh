#!/usr/bin/env bash
# Runs every fuzz target for some seconds. Findings stay in fuzz/artifacts/.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-30}
CARGO_FUZZ_VERSION=0.13.2
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: building cargo-fuzz $CARGO_FUZZ_VERSION (once)"
    cargo install --quiet --locked "cargo-fuzz@$CARGO_FUZZ_VERSION"
fi
mapfile -t targets < <(cargo +nightly fuzz list)
cargo +nightly fuzz build
for target in "${targets[@]}"; do
    echo "== $target, $seconds s"
    cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -max_len=4096 -print_final_stats=0 -verbosity=0
done
echo "fuzz: ${#targets[@]} targets, no finding"
