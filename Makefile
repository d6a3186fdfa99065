# Storepost. `make` lists what there is.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-bench
# Tests make thousands of small databases. In memory, where there is room, no disk is waited for; durability is what
# the fault tests and the benchmarks look at, each in a place of its own.
TEMP := $(shell [ "$$(df --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 4000000 ] 2>/dev/null && echo PYTEST_DEBUG_TEMPROOT=/dev/shm)

.PHONY: help run test lint types lock bench soak screenshots vendor audit clean

help: ## List these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: $(VENV)/.runtime ## Run everything on this machine: web, worker, relay, sandbox (RELAY=0 and SANDBOX=0 leave those out)
	@$(BIN)/python scripts/run.py

test: $(VENV)/.dev ## Run all tests, browser tests included; installs programs they need where it can
	@$(BIN)/python scripts/test_tools.py
	@$(TEMP) $(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

lint: $(VENV)/.dev ## Check format, style and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

types: $(VENV)/.dev ## Check types only
	@$(BIN)/mypy

bench: $(VENV)/.dev $(PEERS)/.peers ## Run the benchmarks into docs/benchmarks.md (one part: ARGS="--only smtp")
	@$(BIN)/python -m bench $(ARGS)

soak: $(VENV)/.dev ## The long runs with kills, faults and load (about 40 minutes), their figures into docs/benchmarks.md
	@$(BIN)/python scripts/test_tools.py
	@$(BIN)/python -m pytest --soak tests/crash tests/relay/test_load.py $(ARGS)

screenshots: $(VENV)/.dev ## Take the pictures in docs/screenshots
	@$(BIN)/python scripts/test_tools.py
	@$(BIN)/python -m pytest tests/journeys/test_every_page.py tests/journeys/test_doctor_faults.py tests/journeys/test_mail_looks.py --screenshots=docs/screenshots

audit: $(VENV)/.dev ## Look for known weaknesses in the locked dependencies
	@$(BIN)/pip-audit --require-hashes -r requirements.txt

lock: $(VENV)/.dev ## Compile and hash the dependency lists
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header requirements.in -o requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header requirements-dev.in -o requirements-dev.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header bench/peers/requirements.in -o bench/peers/requirements.txt

clean: ## Remove what tests and checks left behind (not instance/)
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis test-results

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Storepost needs Python 3.11 or later; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# One install for each set: a second `make run` finds the stamp and starts in seconds.
$(VENV)/.runtime: requirements.txt | $(VENV)/bin/python
	@echo "Installing what Storepost needs …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@echo "Installing what the tests need …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

# What ours is compared with, apart from ours: some of it wants other versions, and none of it shall ship.
$(PEERS)/.peers: bench/peers/requirements.txt | $(VENV)/bin/python
	@echo "Installing the programs that ours is compared with …"
	@$(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r bench/peers/requirements.txt
	@touch $@
