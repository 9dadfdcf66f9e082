"""Runs one relay, a bad link and two clients for each case, and writes what was heard to target/demo/."""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import time
import wave
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[1]
BIN = ROOT / "target/release"
OUT = ROOT / "target/demo"
RECORDINGS = ROOT / "target/speech/48k"
# What each call says, one after the other. The first is judged apart: during it the listener learns the link.
SPOKEN = ["allison-features", "allison-more", "librivox-second"]
GAP_SECS = 1
TAIL_SECS = 5
# Whoever speaks begins so much after the listener's recording at most.
BEGIN_SECS = 4

# Tier, loss in percent, mean burst in packets, jitter in ms: what the link between the speaker and the relay does.
CASES = [
    ("good", 0, 1, 0),
    ("good", 5, 1, 10),
    ("good", 10, 1, 10),
    ("degraded", 15, 2, 20),
    ("catastrophic", 30, 2, 30),
]

sys.path.insert(0, str(ROOT / "tools"))
import quality  # noqa: E402  (needs the path above)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Programs:
    """Child processes that do not outlive the demo."""

    def __init__(self):
        self.running = []

    def start(self, name, *args):
        log = open(OUT / f"{name}.log", "w", encoding="utf-8")
        command = [str(a) for a in args]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
        self.running.append(child)
        return child

    def stop(self, child):
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
        self.running.remove(child)

    def stop_all(self):
        for child in list(self.running):
            self.stop(child)


def events(child):
    for line in child.stdout:
        line = line.strip()
        if line.startswith("{"):
            yield json.loads(line)


def wait_for(child, name):
    for event in events(child):
        if event.get("event") == name:
            return event
    raise SystemExit(f"demo: a program ended before it said `{name}`; see {OUT}/*.log")


def wait_until_up(relay, port):
    """The relay answers on its port as soon as it has bound it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if relay.poll() is not None:
            raise SystemExit(f"demo: the relay did not start; see {OUT}/relay.log")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return
        time.sleep(0.05)
    raise SystemExit("demo: the relay did not bind its port within 10 s")


def call(programs, relay_port, case, seed):
    """Places one call; returns what its programs said at the end."""
    tier, loss, burst, jitter = case
    name = name_of(case)
    relay = f"127.0.0.1:{relay_port}"
    common = ["--room", name, "--tier", tier, "--json", "--known-relays", OUT / f"{name}-known_relays"]
    link = programs.start(
        f"{name}-link", BIN / "wzp-bench", "link", "--listen", "127.0.0.1:0", "--to", relay, "--json",
        "--loss", loss, "--burst", burst, "--jitter-ms", jitter, "--delay-ms", 20, "--seed", seed,
    )
    address = wait_for(link, "listening")["address"]
    spoken = OUT / "spoken.wav"
    with wave.open(str(spoken)) as clip:
        secs = round(clip.getnframes() / clip.getframerate()) + TAIL_SECS
    listener = programs.start(
        f"{name}-listener", BIN / "wzp-client", *common, "--record", OUT / f"{name}.wav", "--secs", secs, relay
    )
    wait_for(listener, "connected")
    speaker = programs.start(f"{name}-speaker", BIN / "wzp-client", *common, "--send-file", spoken, address)
    sent = wait_for(speaker, "summary")
    received = wait_for(listener, "summary")
    for child in (speaker, listener, link):
        programs.stop(child)
    return sent, received


def name_of(case):
    return f"{case[0]}-{case[1]}"


def row(case, sent, received, begins):
    """Judges what was heard of each recording by itself."""
    heard = OUT / f"{name_of(case)}.wav"
    scores = []
    for begin, original in zip(begins, SPOKEN):
        part = OUT / "part.wav"
        cut(heard, part, begin, RECORDINGS / f"{original}.wav")
        scores.append(quality.judge(RECORDINGS / f"{original}.wav", part, limit_s=BEGIN_SECS))
        part.unlink()
    first, later = scores[0], scores[1:]
    tier, loss, burst, jitter = case
    return {
        "tier": tier,
        "loss": loss,
        "burst": burst,
        "jitter": jitter,
        "first_pesq": first["pesq_wb"],
        "first_stoi": first["stoi"],
        "pesq": sum(one["pesq_wb"] for one in later) / len(later),
        "stoi": sum(one["stoi"] for one in later) / len(later),
        "wire_kbps": sent["wire_kbps_up"],
        "delay_ms": received.get("delay_ms"),
        "lost": received["lost"],
        "recovered": received["recovered"],
        "concealed_ms": received["concealed_ms"],
        "wav": heard.relative_to(ROOT),
    }


def cut(whole, part, begin, original):
    """Writes what was heard from `begin` on, as long as `original` and the longest delay."""
    with wave.open(str(original)) as clip:
        secs = clip.getnframes() / clip.getframerate() + BEGIN_SECS
    with wave.open(str(whole)) as source, wave.open(str(part), "wb") as out:
        out.setparams(source.getparams())
        source.setpos(min(round(begin * source.getframerate()), source.getnframes()))
        out.writeframes(source.readframes(round(secs * source.getframerate())))


def write_speech(path):
    """Puts the recordings one after the other into one file; returns the second at which each begins."""
    begins, at = [], 0.0
    with wave.open(str(path), "wb") as out:
        for number, name in enumerate(SPOKEN):
            with wave.open(str(RECORDINGS / f"{name}.wav")) as clip:
                if number == 0:
                    out.setparams(clip.getparams())
                else:
                    gap = GAP_SECS * clip.getframerate()
                    out.writeframes(bytes(gap * clip.getsampwidth() * clip.getnchannels()))
                    at += GAP_SECS
                begins.append(at)
                out.writeframes(clip.readframes(clip.getnframes()))
                at += clip.getnframes() / clip.getframerate()
    return begins


def table(rows):
    print()
    head = ("tier", "loss %", "first PESQ", "then PESQ", "first STOI", "then STOI", "wire kbps", "delay ms", "lost", "recovered", "concealed ms", "heard")
    lines = [head] + [
        (
            r["tier"], r["loss"], f"{r['first_pesq']:.2f}", f"{r['pesq']:.2f}", f"{r['first_stoi']:.3f}",
            f"{r['stoi']:.3f}", f"{r['wire_kbps']:.1f}",
            "-" if r["delay_ms"] is None else r["delay_ms"], r["lost"], r["recovered"], r["concealed_ms"], r["wav"],
        )
        for r in rows
    ]
    widths = [max(len(str(line[i])) for line in lines) for i in range(len(head))]
    for line in lines:
        print("  ".join(str(cell).rjust(width) for cell, width in zip(line, widths)))
    print(
        "\nPESQ is PESQ-WB. first: the first recording of the call, from its first word on, while the listener still\n"
        "learns how long repair takes on this link; then: the mean of the two recordings after it."
    )
    print("wire kbps: what the speaker's packets weigh with repair, headers, tags, lane, UDP and IPv4.")


def picture(rows, path):
    """A bar for each case: STOI on its 0 to 1 scale, PESQ-WB on its 1 to 4.64 scale."""
    width, height, left, bottom = 120 * len(rows) + 90, 320, 60, 70
    scale = height - bottom - 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="22" font-size="15">What was heard once settled: speech intelligibility (STOI) and quality (PESQ-WB)</text>',
    ]
    for step in range(0, 11, 2):
        y = height - bottom - scale * step / 10
        parts.append(f'<line x1="{left}" y1="{y}" x2="{width - 20}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end" fill="#555">{step / 10:.1f}</text>')
    for index, row in enumerate(rows):
        x = left + 20 + 120 * index
        bars = ((row["stoi"], "#2a7f62", f"{row['stoi']:.3f}"), ((row["pesq"] - 1) / 3.64, "#b5651d", f"{row['pesq']:.2f}"))
        for offset, (value, colour, label) in enumerate(bars):
            tall = max(1, scale * max(0, min(1, value)))
            left_edge, top = x + 42 * offset, height - bottom - tall
            parts.append(f'<rect x="{left_edge}" y="{top}" width="38" height="{tall}" fill="{colour}"/>')
            parts.append(f'<text x="{left_edge + 19}" y="{top - 5}" text-anchor="middle">{label}</text>')
        parts.append(f'<text x="{x + 40}" y="{height - bottom + 18}" text-anchor="middle">{row["tier"]}</text>')
        parts.append(
            f'<text x="{x + 40}" y="{height - bottom + 34}" text-anchor="middle" fill="#555">'
            f'{row["loss"]} % loss, {row["wire_kbps"]:.0f} kbps</text>'
        )
    parts.append(f'<rect x="{left}" y="{height - 24}" width="12" height="12" fill="#2a7f62"/>')
    parts.append(f'<text x="{left + 18}" y="{height - 14}">STOI, 0 to 1</text>')
    parts.append(f'<rect x="{left + 130}" y="{height - 24}" width="12" height="12" fill="#b5651d"/>')
    parts.append(f'<text x="{left + 148}" y="{height - 14}">PESQ-WB, drawn from 1 (bottom) to 4.64 (top)</text>')
    parts.append("</svg>")
    path.write_text("\n".join(parts), encoding="utf-8")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    begins = write_speech(OUT / "spoken.wav")
    programs = Programs()
    try:
        port = free_port()
        relay = programs.start("relay", BIN / "wzp-relay", "--listen", f"127.0.0.1:{port}")
        wait_until_up(relay, port)
        for case in CASES:
            print(f"demo: calling: {case[0]}, {case[1]} % loss, {case[3]} ms jitter", flush=True)
        # All at once, each in a room and over a link of its own; judged when nothing has to be on time any more.
        with ThreadPoolExecutor(len(CASES)) as pool:
            calls = [pool.submit(call, programs, port, case, seed) for seed, case in enumerate(CASES, 1)]
            said = [one.result() for one in calls]
    finally:
        programs.stop_all()
    rows = [row(case, *summaries, begins) for case, summaries in zip(CASES, said)]
    table(rows)
    picture(rows, OUT / "heard.svg")
    (OUT / "results.json").write_text(json.dumps(rows, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"spoken: {OUT.relative_to(ROOT)}/spoken.wav   picture: {OUT.relative_to(ROOT)}/heard.svg")


if __name__ == "__main__":
    main()
