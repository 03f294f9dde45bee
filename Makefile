# What the README lists under "Hacking". Whatever cargo does not bring is put into .deps by
# `make deps`; nothing is installed elsewhere.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

CARGO ?= cargo
DEPS := $(CURDIR)/.deps
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
FOREIGN := engine/tests/foreign
CARGO_FUZZ_VERSION := 0.13.2

# How long each fuzz target runs, s.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := $(notdir $(basename $(wildcard proto/fuzz/fuzz_targets/*.rs)))
# SHORT=1: only whether the benchmarks run; the figures are too rough to compare.
BENCH_ARGS := $(if $(SHORT),--warm-up-time 0.1 --measurement-time 0.2 --sample-size 10)

GATE := $(CARGO) run --locked --quiet -p tickwire-benches --bin gate --

.PHONY: demo test loom lint bench gate gate-update gate-selftest perf perf-quick fuzz deps

# An engine with a synthetic market in it, and an edge with a live page; prints the page's address,
# a token and a line to paste.
demo:
	$(CARGO) build --locked --release -p tickwire-engine -p tickwire-edge
	$(TARGET)/release/tickwire demo

# Unit, behaviour and documentation tests, and those of the browser client; the behaviour once more
# with io_uring denied; whether the published protocol is AsyncAPI and says what the code does.
test: deps
	$(CARGO) test --locked --workspace
	node --test edge/web/tests/
	node proto/schema/validate-asyncapi.mjs
	TICKWIRE_TEST_DENY_URING=1 $(CARGO) test --locked -p tickwire-engine --test behaviour
	$(MAKE) loom

# The tape under every interleaving that loom explores. Its flag changes all of the build, which
# therefore has a folder of its own.
loom:
	RUSTFLAGS="--cfg tickwire_loom" $(CARGO) test --locked -p tickwire-engine --lib \
		--target-dir "$(TARGET)/loom" loom_

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	python3 .ci/licences

bench:
	$(CARGO) bench --locked -p tickwire-benches -- $(BENCH_ARGS)

# Whether the hot path still costs what it did: benches/README.md.
gate: deps
	$(GATE) instructions
	$(GATE) ratios

# Keeps what it costs now, in benches/instructions.toml and benches/ratios.toml. On a quiet machine.
gate-update: deps
	$(GATE) instructions --update
	$(GATE) ratios --update

# Whether the gate stops code that is made slow on purpose. It builds that in the same folder, so
# run it behind `gate`, and not beside other builds.
gate-selftest: deps
	$(GATE) selftest

# Every scenario against every server, some four hours; called again on the same day it goes on where
# it was interrupted. `perf-quick` is a first look, a quarter of an hour. Both end with a report in
# their folder of results; `perf` also renews perf/REPORT.md.
RESULTS ?= perf/results/$(shell date +%F)
PERF := $(TARGET)/release/tickwire-perf
perf: deps
	$(CARGO) build --locked --release -p tickwire-engine -p tickwire-edge -p tickwire-perf
	mkdir -p $(RESULTS)
	$(GATE) counts --out $(RESULTS)
	$(PERF) compare --syscalls --out $(RESULTS) --report perf/REPORT.md

perf-quick: deps
	$(CARGO) build --locked --release -p tickwire-engine -p tickwire-edge -p tickwire-perf
	$(PERF) compare --quick --out $(RESULTS)-quick

# Every target from its seeds, two at a time. What a crash needs to be repeated lies in
# proto/fuzz/artifacts then, and belongs among the seeds once it is mended.
# RUSTC_BOOTSTRAP: libFuzzer's instrumentation is an unstable flag, and the toolchain is stable.
fuzz: export RUSTC_BOOTSTRAP := 1
fuzz: export PATH := $(DEPS)/bin:$(PATH)
fuzz:
	command -v cargo-fuzz >/dev/null || \
		RUSTC_BOOTSTRAP=0 $(CARGO) install cargo-fuzz --version $(CARGO_FUZZ_VERSION) --locked --root $(DEPS)
	cd proto && $(CARGO) fuzz build -s none
	printf '%s\n' $(FUZZ_TARGETS) | xargs -P 2 -I TARGET .ci/fuzz TARGET $(FUZZ_SECONDS)

deps: $(DEPS)/ready

$(DEPS)/ready: .ci/deps $(FOREIGN)/requirements.txt $(FOREIGN)/package.json $(FOREIGN)/package-lock.json
	.ci/deps $(DEPS) $(FOREIGN)
	touch $@
