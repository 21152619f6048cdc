# make serve: from nothing to a gateway that answers. make test: every test. Both make their own environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SERVE_ARGS ?=
TEST_ARGS ?=

.PHONY: help serve test test-clients test-agents check format bench docs lock clean setup setup-dev services

help:
	@echo "make serve   install and run a gateway with a demo model; prints a working curl"
	@echo "make test    install and run every test (SQLite, PostgreSQL, SDKs)"
	@echo "make test-clients  install and run the official SDKs of clients against a gateway"
	@echo "make test-agents   install Claude Code and Codex CLI and let them complete a turn"
	@echo "make check   format, lint, types, import contracts, docs up to date"
	@echo "make bench   measure the gateway beside its peers; writes docs/performance.md"
	@echo "make docs    write the generated pages again (docs/cli.md, errors.md, usage.md, protocols.md)"
	@echo "make lock    pin the dependencies again"

$(BIN)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

$(BIN)/.installed-dev: requirements-dev.lock $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

setup: $(BIN)/.installed

setup-dev: $(BIN)/.installed-dev

services:
	sh scripts/install-services

serve: setup
	$(BIN)/gatewayctl quickstart $(SERVE_ARGS)

test: setup-dev services
	$(BIN)/python -m pytest $(TEST_ARGS)

test-clients: setup-dev
	GATEWAYCTL_TEST_CLIENTS=all $(BIN)/python -m pytest -rs tests/clients $(TEST_ARGS)

test-agents: setup-dev
	$(BIN)/python -m pytest -rs tests/clients/agents/turns.py $(TEST_ARGS)

check: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy db daemon gatewayctl
	$(BIN)/lint-imports
	$(BIN)/python -m gatewayctl.docs --check

format: setup-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup-dev
	$(BIN)/python -m tests.bench

docs: setup-dev
	$(BIN)/python -m gatewayctl.docs

lock: setup-dev
	$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--allow-unsafe --strip-extras -o requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--allow-unsafe --strip-extras --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	cd tests/clients/python && $(abspath $(BIN))/pip-compile --quiet --generate-hashes --no-emit-index-url \
		--no-emit-trusted-host --no-emit-find-links --allow-unsafe --strip-extras -o requirements.lock requirements.in

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis
