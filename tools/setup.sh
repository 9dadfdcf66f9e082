#!/usr/bin/env bash
# Installs what a bare Debian machine lacks to build, test and measure WZP. Runs again without doing anything.
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES=(
    build-essential cmake pkg-config git curl ca-certificates
    libasound2-dev                  # cpal, for `wzp-client --live`
    sox ffmpeg                      # reading and judging recordings
    asterisk-core-sounds-en-g722    # recorded speech, CC-BY-SA-3.0
    pocketsphinx-testdata           # recorded speech, LibriVox, BSD-2-Clause
    prometheus                      # promtool, which checks the metrics
    postgresql                      # the control plane's store is tested on one of its own
    tshark                          # dissects calls in the tests
    shellcheck python3 python3-venv
)
CARGO_DENY_VERSION=0.20.2

missing=()
for package in "${PACKAGES[@]}"; do
    state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [[ $state == "install ok installed" ]] || missing+=("$package")
done
if ((${#missing[@]})); then
    echo "setup: installing ${missing[*]}"
    if [[ $(id -u) != 0 ]]; then
        echo "setup: this needs root: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # No services: the tests start what they need on ports of their own.
    RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null; then
    echo "setup: no cargo. Install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer first: https://rustup.rs" >&2
    exit 1
fi
if [[ "$(cargo deny --version 2>/dev/null)" != "cargo-deny $CARGO_DENY_VERSION" ]]; then
    echo "setup: building cargo-deny $CARGO_DENY_VERSION (a few minutes, once)"
    cargo install --quiet --locked "cargo-deny@$CARGO_DENY_VERSION"
fi

requirements=$(sha256sum tools/requirements.txt | cut -d' ' -f1)
if [[ "$(cat .venv/requirements.sha256 2>/dev/null)" != "$requirements" ]]; then
    echo "setup: making .venv with the voice quality metrics"
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/pip install --quiet --requirement tools/requirements.txt
    echo "$requirements" >.venv/requirements.sha256
fi

tools/speech.sh
echo "setup: ready"
