#!/usr/bin/env bash
# Everything that can be said of the tree without running it.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --all --check

step "house rules: who imports whom, vendor doors, file sizes"
python3 tools/lint/house.py

step "clippy"
cargo clippy --workspace --all-targets --quiet -- -D warnings
cargo clippy --quiet -p wzp-client --features device -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet

step "dependencies: bans, licences, sources"
cargo deny --log-level error check bans licenses sources
# The advisory database is fetched from the network; without it only this check is left out.
if cargo deny --log-level error fetch db >/dev/null 2>&1; then
    cargo deny --log-level error check advisories
else
    echo "advisories: the database cannot be fetched from here, not checked"
fi

step "shell scripts"
git ls-files '*.sh' .ci/run | xargs shellcheck

echo
echo "lint: clean"
