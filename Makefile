# What a developer and CI run. Anything longer than three lines is a script in scripts/.
.DEFAULT_GOAL := help
.PHONY: help run build test test-deps check fmt doc deny install curl legacy bench-trunk torture soak fuzz clean
CARGO ?= cargo
PREFIX ?= $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)

help: ## list these targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)$$/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

run: ## serve the demo on 127.0.0.1:5001 (arguments: make run ARGS="--config FILE")
	$(CARGO) run --release --locked -- serve $(ARGS)

build: ## build the release binary
	$(CARGO) build --release --locked

test: test-deps ## run every test (the first time, this installs real MCP servers below target/peers)
	$(CARGO) test --locked

test-deps: ## install what the tests talk to
	scripts/test-deps

check: ## exactly what CI runs: formatting, lints, documentation, tests
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	+$(MAKE) --no-print-directory doc test

fmt: ## format the code
	$(CARGO) fmt

doc: ## build the documentation of the code, private items included
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items --locked

deny: ## judge licences, advisories and duplicates of the dependencies (needs cargo-deny)
	$(CARGO) deny check

install: ## install the command, its manual pages and completions (~/.local, as root /usr/local; else PREFIX=DIRECTORY)
	$(CARGO) install --path . --locked --force --no-track --root "$(DESTDIR)$(PREFIX)"
	scripts/install-pages "$(DESTDIR)$(PREFIX)/bin/spawnling" "$(DESTDIR)$(PREFIX)"

curl: ## run every curl script against a running gateway (SPAWNLING_URL, default http://127.0.0.1:5001)
	scripts/curl/all

legacy: ## check the synchronous backends (Flask, PHP, Java, Ruby, CGI) against a running gateway (SPAWNLING_URL as above)
	scripts/legacy/check

bench-trunk: ## compare a fresh process per request over HTTP with the bare floor below it
	scripts/bench-trunk

torture: build ## end calls and gateways in every way, and count who survives (more: make torture ARGS="--rounds 100")
	scripts/torture $(ARGS)

soak: build ## ten minutes of calls of all kinds; fails if anything grows (more: make soak ARGS="--minutes 60")
	scripts/soak $(ARGS)

fuzz: ## fuzz every parser for a minute, guided by coverage (more: make fuzz ARGS="--seconds 600 route")
	scripts/fuzz $(ARGS)

clean: ## remove everything that was built or installed here
	$(CARGO) clean
