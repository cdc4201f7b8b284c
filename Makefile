# Type `make` for the list of targets. Everything they need is set up by themselves.

.DEFAULT_GOAL := help
.PHONY: help setup test test-long test-ansible-matrix test-ansible-sanity fuzz platforms chaos release soak lab-up lab-down demo bench bench-ansible scale install clean

PREFIX ?= /usr/local
# How `make lab-up` makes the lab: NODES=5 RTT=40 ROOTLESS=1
NODES ?= 2
RTT ?= 0
# How long `make soak` takes.
MINUTES ?= 60
# How long `make fuzz` takes over each target.
SECONDS ?= 60
lab_flags = --nodes $(NODES) --rtt $(RTT) $(if $(ROOTLESS),--rootless)

bin = $(DESTDIR)$(PREFIX)/bin
share = $(DESTDIR)$(PREFIX)/share
units = $(share)/systemd/user

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: ## Install what the other targets need: system packages (as root), Ansible in .venv
	@scripts/setup.sh

test: setup ## Run every test and check that CI runs
	@scripts/test.sh

test-long: setup ## Run the tests that take minutes too
	cargo test --locked --workspace -- --ignored

test-ansible-matrix: setup release ## Run Ansible's own suites with each ansible-core that this machine has a Python for, directly and through the proxy
	@PYTHONPATH=tests .venv/bin/python -m ansible_suites matrix

test-ansible-sanity: setup ## Run ansible-test sanity on the collection; its linters come from PyPI
	@scripts/sanity.sh

fuzz: ## Look for bytes that break a parser: TARGET= (all) SECONDS=60 (each); needs nightly and cargo-fuzz
	@scripts/fuzz.sh $(SECONDS) $(TARGET)

platforms: ## Check types and lints for macOS and for Linux on arm64; needs rustup
	@scripts/platforms.sh

chaos: setup ## Break everything on purpose, over every way in, and print what was seen: FAULT=part-of-a-name
	@FAULT="$(FAULT)" cargo test --locked --quiet -p natssh-tests --test chaos -- --ignored --nocapture

release: ## Build the programs as they are installed
	@scripts/release.sh

demo: setup release ## See natssh work: two nodes behind a NAT and a real playbook
	@examples/demo/run.sh

bench: setup release ## Measure natssh against the nested ProxyCommand, side by side; JSON in bench-results/
	@cargo build --locked --quiet --release -p natssh-tests --example in_process_exec
	@ln -f $${CARGO_TARGET_DIR:-target}/release/examples/in_process_exec target/bin/
	@PYTHONPATH=tests .venv/bin/python -m bench

bench-ansible: setup release ## Measure a play of twenty tasks by every way that Ansible has to the nodes
	@PYTHONPATH=tests .venv/bin/python -m bench --plays

scale: setup release ## A play on 100 nodes with 50 forks: no failure, and its cost beside the ssh plugin
	@PYTHONPATH=tests .venv/bin/python -m scale

soak: setup release ## Mixed streams for MINUTES=60; says whether anything grew, picture in bench-results/
	@PYTHONPATH=tests .venv/bin/python -m soak --minutes $(MINUTES)

lab-up: setup release ## Bring up the lab and leave it running: NODES=2 RTT=0 ROOTLESS=
	@target/bin/natssh-lab up $(lab_flags)

lab-down: release ## Take the lab down
	@target/bin/natssh-lab down

install: ## Install natssh under PREFIX=/usr/local (and DESTDIR); run `make release` first if root has no cargo
	@if command -v cargo >/dev/null; then scripts/release.sh; fi
	install -d $(bin) $(units) $(share)/bash-completion/completions $(share)/zsh/site-functions $(share)/fish/vendor_completions.d
	install -m 755 target/bin/natssh target/bin/natssh-broker $(bin)
	install -m 644 examples/systemd/natssh-broker.socket $(units)
	sed 's|/usr/local/bin|$(PREFIX)/bin|' examples/systemd/natssh-broker.service >$(units)/natssh-broker.service
	target/bin/natssh completions bash >$(share)/bash-completion/completions/natssh
	target/bin/natssh completions zsh >$(share)/zsh/site-functions/_natssh
	target/bin/natssh completions fish >$(share)/fish/vendor_completions.d/natssh.fish

clean: ## Remove what was built and measured, and what was fetched from Python's index
	cargo clean
	rm -rf .venv .ansible-core bench-results
