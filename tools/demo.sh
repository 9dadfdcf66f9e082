#!/usr/bin/env bash
# Places real calls of recorded speech through a real relay across a bad link, in every tier, and shows what was heard.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "demo: building (a few minutes the first time)"
cargo build --release --quiet -p wzp-relay -p wzp-client -p wzp-bench
exec .venv/bin/python tools/demo.py "$@"
