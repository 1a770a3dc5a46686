# Two commands: `make run` shows telemetryd at work, `make test` proves it. Both set themselves up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help run test test-system lint types unit format lock bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "telemetryd needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(STAMP)  ## start the daemon, play the sample streams through a socket, show what arrived
	@$(BIN)/python examples/play.py

test: lint types unit  ## lint, types, and every test that needs nothing else

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(STAMP)
	@$(BIN)/mypy

unit: $(STAMP)
	@$(BIN)/python -m pytest -m 'not system'

test-system: $(STAMP)  ## the tests that need more (named when missing)
	@$(BIN)/python -m pytest -m system tests/system

format: $(STAMP)  ## rewrite the code in the project's format
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock:  ## pin the dependencies anew, with hashes for every platform (needs `uv`)
	@uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --group dev --extra zstd -q pyproject.toml -o requirements/dev.txt
	@uv pip compile --universal --generate-hashes --no-header --python-version 3.11 -q pyproject.toml -o requirements/runtime.txt

clean:  ## forget the virtual environment and everything built
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .run
