#!/usr/bin/env bash
# Stripped release binaries with checksums in target/dist/.
set -euo pipefail
cd "$(dirname "$0")/.."
PROGRAMS=(wzp-relay wzp-control wzp-client wzp-bench)
dist=target/dist
rm -rf "$dist"
mkdir -p "$dist"

# No path of the machine that built them stays in the binaries.
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=deps --remap-path-prefix=$PWD=wzp"

build() { # target triple
    local features=()
    [[ $1 == x86_64-* ]] && pkg-config --exists alsa && features=(--features wzp-client/device)
    cargo build --release --target "$1" "${PROGRAMS[@]/#/-p}" "${features[@]}" \
        --config 'profile.release.strip="symbols"'
    for program in "${PROGRAMS[@]}"; do
        cp "target/$1/release/$program" "$dist/$program-$1"
    done
}

build x86_64-unknown-linux-gnu
arm=aarch64-unknown-linux-gnu
if rustup target list --installed 2>/dev/null | grep -q "^$arm$" && command -v aarch64-linux-gnu-gcc >/dev/null; then
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc build "$arm"
else
    echo "dist: no $arm: it needs \`rustup target add $arm\` and gcc-aarch64-linux-gnu"
fi
(cd "$dist" && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)
