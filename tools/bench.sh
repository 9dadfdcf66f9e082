#!/usr/bin/env bash
# Measures everything that docs/benchmarks.md quotes, and rewrites its figures. Leave the machine alone meanwhile.
#   tools/bench.sh [STEP ...]    only these steps: floor relay voice full-duplex join components
set -euo pipefail
cd "$(dirname "$0")/.."

steps=("$@")
((${#steps[@]})) || steps=(floor relay voice full-duplex join components)
out=target/bench
bench=target/release/wzp-bench
python=.venv/bin/python

[[ -x $python ]] || {
    echo "bench: $python is missing: run \`make setup\` first" >&2
    exit 1
}
tools/speech.sh
echo "bench: building (a few minutes the first time)"
cargo build --release --quiet -p wzp-relay -p wzp-bench
mkdir -p "$out"

# Runs a measurement; what it prints becomes $out/NAME.json only when all of it worked.
measure() {
    local name=$1
    shift
    echo "bench: wzp-bench $*"
    "$bench" "$@" --json | tee "$out/$name.part"
    mv "$out/$name.part" "$out/$name.json"
}

for step in "${steps[@]}"; do
    case $step in
    floor) measure floor floor ;;
    relay) measure relay relay ;;
    voice) measure voice voice --csv "$out/voice.csv" --svg "$out/voice.svg" ;;
    full-duplex) measure full-duplex components --full-duplex ;;
    join) measure join join ;;
    components) measure components components ;;
    *)
        echo "bench: no step is called $step" >&2
        exit 64
        ;;
    esac
done

"$python" tools/bench_report.py
echo "bench: figures are in docs/benchmarks.md, everything else in $out"
