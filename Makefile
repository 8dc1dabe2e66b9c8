# Everything a person or CI calls. Works where there are only Python >= 3.11, make and git: Debian
# packages come by apt, Python packages from requirements-dev.lock into .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo smoke test mutants test-faults test-long bench bench-peers servers lint types \
	format contracts check lock packages clean

# The first that is new enough.
PYTHON := $(shell for each in python3 /usr/bin/python3 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v $$each && break; done)
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-input
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command 'make lock'
PEER := bench/peers/django_helpdesk
ARGS ?=
ROUNDS ?= 300
SEED ?= $(shell date +%s)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: packages .venv/ready ## real servers in a folder of its own, and a story played on them; Ctrl-C ends it
	@$(BIN)/python -m deploy.local demo $(ARGS)

smoke: packages .venv/ready ## the same story without a terminal; fails if a line of it is not true
	@$(BIN)/python -m deploy.local smoke $(ARGS)

test: packages .venv/ready ## all tests on real servers; some: make test ARGS="tests/router -k rule"
	@$(BIN)/pytest -n 3 --dist worksteal $(ARGS)

test-faults: packages .venv/ready ## every plug pulled at every place; `make test` has one case of each kind
	@$(BIN)/pytest -n 3 --dist worksteal -m '(fault or matrix) and not long' $(ARGS)

test-long: packages .venv/ready ## rounds of 300 mails with faults by chance: make test-long ROUNDS=300 SEED=1
	@echo 'SEED=$(SEED) ROUNDS=$(ROUNDS); a round again, by its own seed N: make test-long SEED=N ROUNDS=1'
	@MAILROOM_SEED=$(SEED) MAILROOM_ROUNDS=$(ROUNDS) $(BIN)/pytest -n 2 -vv -m long $(ARGS)

mutants: packages .venv/ready ## break each promise's line in a copy: exactly its tests must fail; some: ARGS="storm Sent"
	@$(BIN)/python -m tests.mutants $(ARGS)

bench: packages .venv/ready ## how fast, beside the bare libraries; some: make bench ARGS="fetch send"
	@$(BIN)/python -m bench $(ARGS)

bench-peers: packages .venv/ready build/peers/django-helpdesk/ready ## the same mails through another help desk
	@$(BIN)/python -m bench.peers

servers: packages .venv/ready ## private RabbitMQ, PostgreSQL, Dovecot and Postfix to try things on, until Ctrl-C
	@$(BIN)/python -m deploy.local servers $(ARGS)

lint: .venv/ready ## style, and which part may import which
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: .venv/ready ## mypy, strict
	@$(BIN)/mypy --num-workers auto shared services deploy bench tests docs

format: .venv/ready ## put the code into shape
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

contracts: .venv/ready ## make docs/contracts from the models; refuses to narrow one
	@$(BIN)/mailroom contracts docs/contracts

check: .venv/ready ## are the generated files what the code says?
	@$(BIN)/mailroom contracts --check docs/contracts
	@$(BIN)/mailroom settings | diff docs/settings.md -

lock: .venv/ready ## choose versions anew: both lock files, with hashes, from pyproject.toml
	@$(PIP) uv
	@$(LOCK) --extra build --output-file requirements.lock pyproject.toml
	@$(LOCK) --all-extras --constraints requirements.lock --output-file requirements-dev.lock pyproject.toml
	@$(LOCK) --output-file $(PEER)/requirements.lock $(PEER)/requirements.txt

packages: ## install the Debian packages that are missing: servers, python3-venv
	$(if $(PYTHON),,@echo 'mailroom: Python 3.11 or newer is needed, as python3' >&2; exit 2)
	@$(PYTHON) -m deploy.local.install

clean: ## remove .venv and what tools left behind
	@rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Made anew when the lock changes, so that nothing stays in it that the lock does not name. The
# files named here are written last: what was interrupted is begun again.
.venv/locked: requirements-dev.lock
	@$(MAKE) --no-print-directory packages
	@echo 'Making .venv from requirements-dev.lock …'
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

.venv/ready: .venv/locked pyproject.toml
	@$(PIP) --no-deps --no-build-isolation -e .
	@# Else each start compiles anew where PYTHONDONTWRITEBYTECODE is set: 0.2 s of 1.5.
	@$(BIN)/python -m compileall -q shared services
	@touch $@

# An environment of its own: nothing of it is Mailroom's.
build/peers/django-helpdesk/ready: $(PEER)/requirements.lock
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --no-input --require-hashes \
		-r $(PEER)/requirements.lock
	@touch $@
