#!/usr/bin/env bash
# Makes clips of recorded speech for tests, demo and benchmarks from Debian's voice packages:
# target/speech/48k/NAME.wav and target/speech/16k/NAME.wav, mono, 16 bit, about 9 s, -26 dBov RMS.
# Does nothing when they are there already.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/target/speech}
# Raise when a clip changes, so that old clips are made again.
edition=1

asterisk=/usr/share/asterisk/sounds/en_US_f_Allison
librivox=/usr/share/pocketsphinx/test/data/librivox

# name, start, length, sources (joined in this order)
clips=(
    "allison-congrats    0  9 $asterisk/demo-congrats.g722"
    "allison-features   14  9 $asterisk/demo-congrats.g722"
    "allison-instruct    0  9 $asterisk/demo-instruct.g722"
    "allison-calls      30  9 $asterisk/demo-instruct.g722"
    "allison-try         0  9 $asterisk/demo-abouttotry.g722"
    "allison-echo        0  9 $asterisk/demo-echotest.g722"
    "allison-more        0  9 $asterisk/demo-moreinfo.g722"
    "librivox-first      0  7 $librivox/sense_and_sensibility_01_austen_64kb-0870.wav"
    "librivox-second     0  9 $librivox/sense_and_sensibility_01_austen_64kb-0890.wav $librivox/sense_and_sensibility_01_austen_64kb-0920.wav"
    "librivox-third      0  6 $librivox/sense_and_sensibility_01_austen_64kb-0880.wav $librivox/sense_and_sensibility_01_austen_64kb-0930.wav"
)

if [[ -f $out/.edition && $(cat "$out/.edition") == "$edition" ]]; then
    exit 0
fi

fail() {
    echo "speech.sh: $1; run \`make setup\`" >&2
    exit 1
}

command -v ffmpeg >/dev/null || fail "ffmpeg is missing"
command -v sox >/dev/null || fail "sox is missing"
[[ -d $asterisk ]] || fail "asterisk-core-sounds-en-g722 is missing"
[[ -d $librivox ]] || fail "pocketsphinx-testdata is missing"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out/48k" "$out/16k"

# The file's RMS is brought to -26 dB below full scale: 0.0501 of it.
level() {
    sox "$1" -n stat 2>&1 | awk '/RMS.*amplitude/ { printf "%.3f", 20 * log(0.0501187 / $3) / log(10) }'
}

for clip in "${clips[@]}"; do
    read -r name start length sources <<<"$clip"
    parts=()
    for source in $sources; do
        part=$work/part-${#parts[@]}.wav
        if [[ $source == *.g722 ]]; then
            ffmpeg -nostdin -loglevel error -y -f g722 -i "$source" -ac 1 -ar 16000 "$part"
        else
            sox "$source" -r 16000 -c 1 -b 16 "$part"
        fi
        parts+=("$part")
    done
    sox "${parts[@]}" "$work/whole.wav" trim "$start" "$length"
    sox -D "$work/whole.wav" -b 16 "$out/16k/$name.wav" gain "$(level "$work/whole.wav")"
    sox -D "$out/16k/$name.wav" -b 16 "$out/48k/$name.wav" rate -v 48000
done

echo "$edition" >"$out/.edition"
echo "speech.sh: ${#clips[@]} clips in $out"
