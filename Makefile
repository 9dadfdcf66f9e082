# The only entry point. `make` alone prints the targets.

CARGO ?= cargo
FUZZ_SECONDS ?= 30

.PHONY: help setup demo test lint bench fuzz dist

help:
	@echo "make setup   install everything a bare Debian machine lacks (idempotent)"
	@echo "make demo    build, place a real call across a bad link in every tier, print and plot what was heard"
	@echo "make test    run every test, the loom models included"
	@echo "make lint    format, clippy, rustdoc, house rules, dependencies, shell scripts"
	@echo "make bench   measure everything that docs/benchmarks.md quotes, and rewrite its figures"
	@echo "make fuzz    run every fuzz target for FUZZ_SECONDS (default 30) each"
	@echo "make dist    stripped release binaries and SHA256SUMS in target/dist/"

setup:
	@tools/setup.sh

demo: setup
	@tools/demo.sh

test:
	@tools/speech.sh
	$(CARGO) test --workspace --all-targets --no-fail-fast
	$(CARGO) test --workspace --doc
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom $(CARGO) test -p wzp-lane --profile loom --lib loom

lint:
	@tools/lint.sh

bench:
	@tools/bench.sh

fuzz:
	@tools/fuzz.sh $(FUZZ_SECONDS)

dist:
	@tools/dist.sh
