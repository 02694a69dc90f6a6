# make demo | test | coverage | serve | lint | bench      (the first two need Python 3.11 and nothing else)
SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# bars on a terminal, silence in a log (the substitution has the terminal only as its standard error)
PIP = $(BIN)/pip install $$([ -t 2 ] || echo --quiet) --disable-pip-version-check -c constraints.txt
RUN_EXTRAS := worker,embedded
ALL_EXTRAS := worker,embedded,dev
COVERED_BY := tests/unit/app/domain tests/unit/worker/pipeline
MIN_COVERAGE := 95

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-slow coverage lint bench clean

help:
	@sed -n '1s/^# //p' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (set PYTHON=...)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# stamps: what is installed for running, and for developing as well
$(VENV)/.run: $(BIN)/python pyproject.toml constraints.txt
	@echo "set-up: installing (the downloads are the longest part)"
	$(PIP) -e '.[$(RUN_EXTRAS)]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) -e '.[$(ALL_EXTRAS)]'
	@touch $@

setup: $(VENV)/.run

demo: $(VENV)/.run
	$(BIN)/nasatlas demo

serve: $(VENV)/.run
	$(BIN)/nasatlas serve

test: coverage
	$(BIN)/pytest -m "not slow" $(COVERED_BY:%=--ignore=%)

# the unit tests of what holds the method, alone: the rest of `test` would cover lines that no test looks at
coverage: $(VENV)/.dev
	$(BIN)/pytest -q -m "not slow" $(COVERED_BY) --cov=app/domain --cov=worker/pipeline --cov-report=
	$(BIN)/coverage report --skip-covered --include='app/domain/*' --fail-under=$(MIN_COVERAGE)
	$(BIN)/coverage report --skip-covered --include='worker/pipeline/*' --fail-under=$(MIN_COVERAGE)

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/hadolint Dockerfile

# FULL=1 for the sizes of the README's figures
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
