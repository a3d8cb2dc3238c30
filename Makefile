# Each target does all of its own set-up in .venv; it needs Python >= 3.11, pip and make.
PYTHON ?= python3
VENV ?= .venv
SUITE ?= pool
BIN := $(VENV)/bin
SECONDS ?= 600
RELOADS ?= 500
WORKERS ?= 80
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: run test soak soak-supervisor lint format docs bench clean

run: $(VENV)/.run           ## the main job: index the standard library on a pool of workers
	$(BIN)/python examples/word_index.py

test: $(VENV)/.test         ## the tests, in two processes (ARGS="-k pool" for some of them, in one)
	$(BIN)/python $(if $(ARGS),-m pytest $(ARGS),-m tests.side_by_side)

soak: $(VENV)/.test         ## the pool under random kills for SECONDS (600), with a line for every round
	AIOIPC_SOAK_SECONDS=$(SECONDS) $(BIN)/python -m pytest -s --show-capture=no tests/pool/test_soak.py $(ARGS)

soak-supervisor: $(VENV)/.test  ## RELOADS (500) of a supervisor with WORKERS (80): nothing may grow; a line for every tenth
	AIOIPC_SOAK_RELOADS=$(RELOADS) AIOIPC_SOAK_WORKERS=$(WORKERS) \
	    $(BIN)/python -m pytest -s --show-capture=no tests/supervisor/test_soak.py $(ARGS)

lint: $(VENV)/.lint         ## style, types, completeness of the public types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(abspath $(BIN)):$$PATH" pyright --verifytypes aioipc --ignoreexternal

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs         ## the documentation as a site, in site/; a broken link fails
	$(BIN)/zensical build --strict --clean

bench: $(VENV)/.bench       ## the pool beside its peers (SUITE=channels: pipes, prefork: servers; ARGS="--quick" for a first look)
	$(BIN)/python -m benchmarks $(SUITE) $(ARGS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "aioipc needs Python >= 3.11; set PYTHON=/path/to/one" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.run
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.lint: pyproject.toml $(VENV)/.test
	$(PIP) --editable '.[lint]'
	@touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.run
	$(PIP) --editable '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-* build dist site .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
