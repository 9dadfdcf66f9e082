"""Writes what `make bench` measured into docs/benchmarks.md, between its markers."""

import datetime
import json
import os
import pathlib
import platform
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
IN = ROOT / "target/bench"
PAGE = ROOT / "docs/benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
BENCH = "wzp-bench"


def results(name):
    """The JSON lines of one measurement; none if it was not made."""
    path = IN / f"{name}.json"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def verdict(value, bar, met):
    return "-" if value is None else ("yes" if met(value, bar) else "**no**")


def at_most(value, bar):
    return value <= bar


def at_least(value, bar):
    return value >= bar


def machine():
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    kib = int(pathlib.Path("/proc/meminfo").read_text(encoding="utf-8").split()[1])
    when = max((path.stat().st_mtime for path in IN.glob("*.json")), default=0)
    day = datetime.datetime.fromtimestamp(when, datetime.timezone.utc).date()
    return (
        f"Measured on {day}: {os.cpu_count()} cores ({model}), {kib / 2**20:.0f} GiB, "
        f"Linux {platform.release()}, everything on the loopback interface."
    )


def find(rows, **wanted):
    return next((row for row in rows if all(row.get(key) == value for key, value in wanted.items())), {})


def bars(relay, voice, duplex, join):
    """The figures that have a bar, in one table."""
    lines = []

    def line(what, value, digits, unit, bar, met, command):
        shown = "not measured" if value is None else f"{number(value, digits)}{unit}"
        lines.append((what, shown, f"{'≤' if met is at_most else '≥'} {bar}{unit}", verdict(value, bar, met), f"`{command}`"))

    for carrier, bar in (("lane", 1.25), ("quic", 3.5)):
        for shape in ("1x20", "100x10"):
            row = find(relay, carrier=carrier, shape=shape)
            what = f"relay CPU a packet ÷ raw forwarder, {carrier}, {shape}"
            line(what, row.get("ratio"), 2, "", bar, at_most, f"{BENCH} relay --carrier {carrier} --shape {shape}")
    for carrier in ("lane", "quic"):
        for shape in ("1x20", "100x10"):
            latency = find(relay, carrier=carrier, shape=shape).get("latency_p99_us")
            what = f"latency p99 at half load, {carrier}, {shape}"
            value = None if latency is None else latency / 1000
            line(what, value, 2, " ms", 2, at_most, f"{BENCH} relay --carrier {carrier} --shape {shape}")
    for carrier in ("lane", "quic"):
        idle = find(relay, carrier=carrier, shape="100x10").get("idle_member_bytes")
        value = None if idle is None else idle / 1024
        line(f"memory an idle member, {carrier}", value, 1, " KiB", 40, at_most, f"{BENCH} relay --carrier {carrier} --shape 100x10")
    line("full-duplex client at GOOD with RNNoise", find(duplex, tier="good").get("cpu_percent"), 2, " % of a core", 5, at_most, f"{BENCH} components --full-duplex")
    clean = find(voice, tier="good", loss_percent=0.0)
    lossy = find(voice, tier="good", loss_percent=10.0, burst_packets=1.0)
    line("PESQ-WB, GOOD, no loss", clean.get("pesq_wb"), 2, "", 4.2, at_least, f"{BENCH} voice")
    line("PESQ-WB, GOOD, 10 % random loss", lossy.get("pesq_wb"), 2, "", 3.0, at_least, f"{BENCH} voice")
    low = find(voice, tier="catastrophic", loss_percent=0.0).get("stoi")
    worst = find(voice, tier="catastrophic", loss_percent=30.0).get("stoi")
    fall = None if low is None or worst is None else low - worst
    line("STOI that CATASTROPHIC loses at 30 % random loss", fall, 3, "", 0.05, at_most, f"{BENCH} voice")
    first = join[0] if join else {}
    line("connect → first sound, room of 20, p95", first.get("first_sound_p95_ms"), 1, " ms", 80, at_most, f"{BENCH} join")
    return table(("what", "measured", "bar", "met", "command"), lines)


def relay_table(relay):
    rows = [
        (
            row["carrier"], row["shape"], number(row["us_per_packet"], 2), number(row["raw_us_per_packet"], 2), number(row["ratio"], 2),
            number(row["load_packets_per_second"]), number(row["packets_per_second"]), row.get("limit") or "-",
            number(row["raw_packets_per_second"]), number(row["latency_p50_us"]), number(row["latency_p99_us"]),
            number(row["raw_latency_p99_us"]), number(row["idle_member_bytes"]),
        )
        for row in relay
    ]
    head = (
        "carrier", "shape", "µs a packet", "raw µs", "ratio", "at packets/s", "loss from packets/s", "what gave way", "raw, packets/s",
        "p50 µs", "p99 µs", "raw p99 µs", "bytes an idle member",
    )
    return table(head, rows)


def voice_table(voice):
    rows = [
        (
            row["tier"], number(row["loss_percent"]), number(row["burst_packets"]), number(row["pesq_wb"], 2), number(row["stoi"], 3),
            number(row["wire_kbps"], 1), number(row["codec_kbps"], 1), number(row["delay_ms"]), number(row["buffer_ms"]),
            number(row["frames_recovered_percent"], 1), number(row["concealed_percent"], 2),
        )
        for row in voice
    ]
    head = (
        "tier", "loss %", "mean burst", "PESQ-WB", "STOI", "wire kbps", "codec kbps", "delay ms", "of it buffer ms",
        "lost frames recovered %", "concealed %",
    )
    return table(head, rows)


def section(title, command, text):
    return f"### {title}\n\n`{command}`\n\n{text}\n"


def figures():
    floor, relay, voice = results("floor"), results("relay"), results("voice")
    duplex, join, parts = results("full-duplex"), results("join"), results("components")
    blocks = [machine() + "\n", bars(relay, voice, duplex, join) + "\n"]
    if floor:
        rows = [
            (row["scenario"], number(row["cpu_us_per_packet_out"], 2), number(row["packets_out"] / row["seconds"]), number(row["lost_percent"], 2))
            for row in floor
        ]
        text = table(("scenario", "µs CPU a packet out", "packets/s", "lost %"), rows)
        blocks.append(section("What the kernel alone costs", f"{BENCH} floor", text))
    if relay:
        blocks.append(section("Relay", f"{BENCH} relay", relay_table(relay)))
    if voice:
        blocks.append(section("Voice", f"{BENCH} voice --csv FILE --svg FILE", voice_table(voice)))
    if duplex:
        rows = [(row["tier"], number(row["cpu_percent"], 2), number(row["cpu_seconds"], 2), number(row["audio_seconds"])) for row in duplex]
        text = table(("tier", "% of a core", "CPU s", "sound s"), rows)
        blocks.append(section("A whole client", f"{BENCH} components --full-duplex", text))
    if join:
        rows = [
            (
                row["members"], row["talkers"], row["times"], number(row["connected_p50_ms"], 1), number(row["joined_p50_ms"], 1),
                number(row["first_sound_p50_ms"], 1), number(row["first_sound_p95_ms"], 1), number(row["first_sound_max_ms"], 1),
            )
            for row in join
        ]
        head = ("members", "talkers", "joins", "connected p50 ms", "joined p50 ms", "first sound p50 ms", "p95 ms", "longest ms")
        blocks.append(section("Joining", f"{BENCH} join", table(head, rows)))
    parts = [row for row in parts if "component" in row]
    if parts:
        rows = [(row["component"], number(row["ns"] / 1000, 3)) for row in parts]
        blocks.append(section("Parts", f"{BENCH} components", table(("part", "µs, median"), rows)))
    return "\n".join(blocks)


def main():
    if not any(IN.glob("*.json")):
        sys.exit(f"bench_report: nothing was measured yet: {IN} is empty, run `make bench`")
    page = PAGE.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page:
        sys.exit(f"bench_report: {PAGE} has lost its markers")
    before, rest = page.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    PAGE.write_text(f"{before}{BEGIN}\n{figures()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
