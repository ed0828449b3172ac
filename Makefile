# Every command of the project. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

FUZZ_SECONDS ?= 60

.PHONY: help demo test fuzz lint bench bench-history bench-isolation bench-scale bench-page bench-page-memory doc audit fmt clean-servers deny-tool

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' Makefile

demo: ## a small fleet of real servers on this machine, seen on /metrics; Ctrl-C ends it and leaves nothing (ARGS=--help)
	@exec demo/demo.sh $(ARGS)

test: ## all tests, on real servers (gets MariaDB, MySQL and Prometheus first, where they can be had)
	@tests/servers/install
	# Tests of what could not be had say that they did not run. Most wait for servers, not for processors.
	[ -n "$$(tests/servers/mysql-server version)" ] || export FLEET_TESTS_WITHOUT_MYSQL=1
	[ -x "$$(tests/servers/prometheus path)/bin/promtool" ] || export FLEET_TESTS_WITHOUT_PROMETHEUS=1
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} cargo test --workspace --locked

fuzz: ## invented bytes for what reads others' bytes, a minute each, guided by what they reach (FUZZ_SECONDS=60, KEEP=1)
	@tests/fuzz/run $(FUZZ_SECONDS)

lint: deny-tool ## formatting, clippy without warnings, licences, bans and sources of dependencies
	@set -x
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo deny check licenses bans sources

bench: ## what a run costs beside a bare loop of the same client, and what loading a large configuration does
	@tests/servers/install
	cargo bench -p fleet-query-exporter --locked --bench config --bench reload --bench reload_live --bench fleet

bench-history: ## what the history bears and costs: 100 kills, five faults of its store, what it writes; about ten minutes
	@tests/servers/install
	cargo bench -p fleet-query-exporter --locked --bench history

bench-isolation: ## whether a sick part of a simulated fleet of 300 harms the rest: five minutes; fails where a bar is missed
	cargo bench -p fleet-query-exporter --locked --bench isolation

bench-scale: ## flatness, CPU, memory and recovery with 100, 1,000 and 5,000 simulated targets: seven minutes; fails likewise
	cargo bench -p fleet-query-exporter --locked --bench scale

bench-page: ## what a scrape costs beside nginx with the same bytes, and what publishing makes of it
	@tests/servers/nginx install
	cargo bench -p fleet-query-exporter --locked --bench page

bench-page-memory: ## the memory of a million series that are published and scraped for ten minutes
	@tests/servers/nginx install
	cargo bench -p fleet-query-exporter --locked --bench page -- memory

doc: ## the documentation of the code, without warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items

audit: deny-tool ## known vulnerabilities of dependencies (fetches the advisory database; says so where it cannot)
	@if ! timeout 300 cargo deny fetch db; then
	  echo >&2
	  echo '!!! NOT AUDITED: the advisory database cannot be fetched from here (the reason is above).' >&2
	  echo '!!! Nothing is known about vulnerable dependencies. Run `make audit` where the network reaches it.' >&2
	  exit 0
	fi
	cargo deny --offline check advisories

fmt: ## formats the code
	cargo fmt --all

clean-servers: ## deletes the unpacked test servers (packages of the machine stay)
	@tests/servers/install --remove

deny-tool:
	@if ! cargo deny --version >/dev/null 2>&1; then
	  echo 'cargo-deny is not installed: building it once, which takes some minutes' >&2
	  cargo install cargo-deny --locked --version '^0.20'
	fi
