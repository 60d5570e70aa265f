# The commands. Each is a line or two that anybody could type.

# rustup's programs are found without a new login after its installation.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# How long `make fuzz` works on each target.
FUZZ_SECONDS ?= 60
# How long `make soak` runs.
MINUTES ?= 30
# How many worlds `make sim` tries, and the first of them.
SEEDS ?= 1000
FIRST ?= 1

.DEFAULT_GOAL := help
.PHONY: help run demo deb test bench load loss srt-loss soak lint fmt fuzz sim web player setup clean

help: ## Lists these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile

run: web ## Builds the server and starts it; says which address to open and what to type into OBS
	cargo build --release --locked --package millrace --package millrace-transcode
	exec target/release/millrace --config configs/default.toml

demo: web ## The same, with a moving test picture and a tone as a stream to watch at once
	scripts/setup demo
	cargo build --release --locked --package millrace --package millrace-transcode
	scripts/demo

deb: web ## Builds a package for Debian and Ubuntu: target/deb/millrace_*.deb
	cargo build --release --locked --package millrace --package millrace-transcode
	scripts/deb

test: ## Checks everything: format, lints, documents, pages, all tests, real browsers
	scripts/test

bench: ## Measures what a forwarded packet costs
	scripts/setup run
	cargo bench --locked

load: web ## Measures the server under load, and all ways in beside each other; takes seven minutes
	scripts/load

loss: web ## Measures how long Chromium's picture stands where the network loses packets; six minutes
	scripts/setup test
	cargo build --release --locked --package millrace --package millrace-transcode
	cargo build --release --locked --package millrace-loadtest
	MILLRACE_BIN=$(CURDIR)/target/release/millrace node tests/browser/loss.mjs

srt-loss: web ## Counts what SRT loses where the network does, beside libsrt's tool; six minutes
	scripts/setup test
	scripts/srt-loss

soak: web ## Two publishers and 20 viewers for MINUTES: memory, and lip sync at the end
	scripts/setup test
	scripts/soak $(MINUTES)

lint: web ## Format, lints, documents and page types, without the tests
	scripts/lint

fmt: ## Formats the Rust code
	cargo fmt --all

fuzz: ## Mutates the parsers' corpora, FUZZ_SECONDS for each
	scripts/setup run
	FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --release --locked --test fuzz -- --ignored --nocapture

sim: ## Simulates SEEDS worlds with bad networks, from number FIRST on, and looks whether all is well
	scripts/setup run
	FIRST=$(FIRST) SEEDS=$(SEEDS) CARGO_PROFILE_DEV_OPT_LEVEL=1 \
		cargo test --locked --test sim seeds::whatever -- --nocapture

web: ## Builds the pages, which the server carries within itself
	scripts/setup run
	npm --prefix web run --silent build

player: ## Makes the npm package of the player: web/package/millrace-player-*.tgz
	scripts/setup run
	npm --prefix web run --silent package
	cd web/package && npm pack --silent

setup: ## Installs what building and testing need
	scripts/setup test

clean: ## Removes everything that was built
	rm -rf target web/dist web/node_modules tests/browser/node_modules \
		tests/clients/node_modules tests/clients/.venv
