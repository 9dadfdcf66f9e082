#!/usr/bin/env python3
"""Checks the house rules of docs/architecture.md: who may import whom, one door for each vendor library, file sizes.

Prints one line for each breach and exits with 1 when there is one.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_LINES = 600

# What a crate of the workspace may import of the workspace (dev-dependencies are free).
MAY_IMPORT = {
    "wzp-proto": set(),
    "wzp-wire": {"wzp-proto"},
    "wzp-lane": {"wzp-wire"},
    "wzp-identity": set(),
    "wzp-sdk-core": {"wzp-wire", "wzp-identity"},
    "wzp-relay-core": {"wzp-wire", "wzp-identity"},
    "wzp-control-core": {"wzp-wire", "wzp-identity"},
    "wzp-socket": {"wzp-wire", "wzp-lane"},
    "wzp-sdk": {"wzp-proto", "wzp-wire", "wzp-lane", "wzp-identity", "wzp-sdk-core", "wzp-socket"},
    "wzp-relay": {"wzp-proto", "wzp-wire", "wzp-lane", "wzp-identity", "wzp-relay-core", "wzp-socket"},
    "wzp-control": {"wzp-proto", "wzp-wire", "wzp-identity", "wzp-control-core", "wzp-socket"},
    "wzp-testkit": {"wzp-wire", "wzp-sdk-core"},
    "wzp-client": {"wzp-wire", "wzp-identity", "wzp-sdk", "wzp-testkit"},
    "wzp-bench": None,
    "wzp-e2e": None,
}

# Crates without a clock, socket, task, lock or global randomness: what their manifests may never list.
CORES = {"wzp-proto", "wzp-wire", "wzp-lane", "wzp-identity", "wzp-sdk-core", "wzp-relay-core", "wzp-control-core"}
NEVER_IN_A_CORE = {
    "tokio", "quinn", "quinn-proto", "quinn-udp", "tonic", "axum", "sqlx", "kube", "prometheus-client", "anyhow",
    "socket2", "libc", "rand", "getrandom", "tracing", "tracing-subscriber", "clap", "rustls",
}
BANNED_BY_CLIPPY = ["std::time::Instant::now", "std::time::SystemTime::now", "std::sync::Mutex"]

# Vendor library -> (crates that may list it, file names that may name it).
DOORS = {
    "ring": ({"wzp-lane"}, None),
    "opusic-sys": ({"wzp-sdk"}, r"client-sdk/src/codec(/|\.rs)"),
    "codec2": ({"wzp-sdk"}, r"client-sdk/src/codec(/|\.rs)"),
    "nnnoiseless": ({"wzp-sdk"}, r"client-sdk/src/dsp(/|\.rs)"),
    "sonora": ({"wzp-sdk"}, r"client-sdk/src/dsp(/|\.rs)"),
    "cpal": ({"wzp-sdk"}, r"client-sdk/src/device(/|\.rs)"),
    "hound": ({"wzp-sdk"}, r"client-sdk/src/wav(/|\.rs)"),
    "axum": ({"wzp-relay", "wzp-control"}, r"/http(/|\.rs)"),
    "tonic": ({"wzp-proto", "wzp-relay", "wzp-control"}, r"/grpc(/|\.rs)|/control(/|\.rs)"),
    "sqlx": ({"wzp-control"}, r"/store(/|\.rs)"),
    "hyper-util": ({"wzp-sdk", "wzp-relay"}, r"/control(/|\.rs)"),
    "hyper-rustls": ({"wzp-sdk"}, r"client-sdk/src/control(/|\.rs)"),
    "rustls-native-certs": ({"wzp-sdk"}, r"client-sdk/src/control(/|\.rs)"),
    "prometheus-client": ({"wzp-relay", "wzp-control"}, r"/metrics(/|\.rs)|/http\.rs"),
    "rcgen": ({"wzp-relay", "wzp-control"}, r"/cert\.rs|/authority(/|\.rs)"),
    "libc": ({"wzp-socket"}, None),
    "nix": ({"wzp-bench", "wzp-e2e"}, None),
    "raptorq": ({"wzp-sdk-core"}, r"voice/fec(/|\.rs)"),
    "bip39": ({"wzp-identity"}, r"identity/src/phrase(/|\.rs)"),
}


def packages():
    out = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    return json.loads(out)["packages"]


def normal(package):
    return {d["name"] for d in package["dependencies"] if d["kind"] is None}


def imports(found):
    for package in packages():
        name, deps = package["name"], normal(package)
        if name not in MAY_IMPORT:
            found.append(f"{name}: not in the house; add it to tools/lint/house.py")
            continue
        allowed = MAY_IMPORT[name]
        if allowed is not None:
            for dep in sorted(d for d in deps if d.startswith("wzp-") and d not in allowed):
                found.append(f"{name} imports {dep}: not its place")
        if name in CORES:
            # Its service stubs are behind a feature that no other core asks for.
            stubs = {"tonic"} if name == "wzp-proto" else set()
            for dep in sorted(deps & NEVER_IN_A_CORE - stubs):
                found.append(f"{name} is a core and lists {dep}")
            clippy = pathlib.Path(package["manifest_path"]).with_name("clippy.toml")
            text = clippy.read_text() if clippy.exists() else ""
            if name != "wzp-proto":
                for ban in BANNED_BY_CLIPPY:
                    if f'"{ban}"' not in text:
                        found.append(f"{name}: clippy.toml does not ban {ban}")
        for vendor, (crates, _) in DOORS.items():
            if vendor in deps and name not in crates:
                found.append(f"{name} lists {vendor}: its door is {', '.join(sorted(crates))}")


def sources():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.rs"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()
    return [p for p in listed if (ROOT / p).is_file()]


def doors_in_files(found):
    for path in sources():
        if "/tests/" in path or "/benches/" in path or path.startswith(("e2e/", "fuzz/")):
            continue
        text = (ROOT / path).read_text()
        for vendor, (_, place) in DOORS.items():
            if place and re.search(rf"\b{vendor.replace('-', '_')}::", text) and not re.search(place, path):
                found.append(f"{path} names {vendor}: its door is {place}")


def unsafe_code(found):
    allowed = re.compile(r"^socket/|^client-sdk/src/codec/|^testkit/src/allocations\.rs")
    for path in sources():
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
            if re.search(r"\bunsafe\s*(\{|fn|impl)", line) and not allowed.search(path):
                found.append(f"{path}:{number}: unsafe outside the socket and the codec door")


def sizes(found):
    for path in sources():
        text = (ROOT / path).read_text()
        lines = text.count("\n")
        if lines > MAX_LINES and not re.search(r"^//! (Long|Size):", text, re.M):
            found.append(f"{path}: {lines} lines; split it, or say why in a `//! Long: …` line")


def main():
    found = []
    for rule in (imports, doors_in_files, unsafe_code, sizes):
        rule(found)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
