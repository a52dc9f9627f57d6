PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
STUDIES := $(basename $(notdir $(wildcard studies/[!_]*.py)))
OLD_PYTHON := error: $(PYTHON) must be Python 3.11 or newer with venv and ensurepip; name another: make PYTHON=python3.12

.DEFAULT_GOAL := help
.PHONY: help figures ledger docs test test-slow lint compiled bench fuzz lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*  ##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## /\1\t/' | expand -t 12

figures: $(INSTALLED)  ## run every study at quick scale and draw figures/
	@echo 'compiling what studies need and is not in the cache yet: minutes the first time'
	@$(BIN)/python -c 'from stabsim.cli.warmup import STUDIED, compile_all; compile_all(STUDIED)'
	@$(MAKE) --no-print-directory --keep-going --jobs $$(getconf _NPROCESSORS_ONLN) \
	    $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) $(STUDIES:%=figures-%)

# Drawing, a third of the work, takes one processor: studies share the machine, each on one thread, with the same bytes.
figures-%: $(INSTALLED)
	@$(BIN)/stabsim run $* --scale quick --threads 1

ledger: $(INSTALLED)  ## run every study at paper scale and write data/claims.csv
	$(BIN)/stabsim run --all --scale paper
	$(BIN)/stabsim claims --out . --scale paper --csv data/claims.csv

docs: $(INSTALLED)  ## build docs/_build/html; with the figures of `make figures`, if they are there
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo 'docs/_build/html/index.html'

test: lint compiled  ## lint, types and the test suite
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal

test-slow: $(INSTALLED)  ## the tests that take minutes
	$(BIN)/pytest -m slow --timeout 1800

lint: $(INSTALLED)  ## style, spelling and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/typos
	$(BIN)/mypy

# A run compiles one kernel at a time, and two workers of the tests the same one: this does it once, on two cores.
# Unlike `stabsim warmup`, it keeps what other checkouts have compiled.
compiled: $(INSTALLED)
	@echo 'compiling what is not in the cache yet: minutes the first time'
	@$(BIN)/python -c 'from stabsim.cli.warmup import compile_all; compile_all()'

bench: $(INSTALLED)  ## measure against peers
	$(BIN)/python benchmarks/peers.py

fuzz: $(INSTALLED)  ## try a million random inputs; leaves figures/fuzz.png and .csv
	$(BIN)/python benchmarks/fuzz.py --inputs 1000000

lock: $(INSTALLED)  ## write requirements.lock anew from pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra test --universal --python-version 3.11 \
	    --fork-strategy fewest --no-annotate --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make lock" --upgrade --output-file requirements.lock

clean:  ## remove what make installed and every cache; keep results/ and figures/
	rm -rf $(VENV) build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    || { echo '$(OLD_PYTHON)' >&2; exit 1; }
	@echo 'installing the versions of requirements.lock into $(VENV): about a minute'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
