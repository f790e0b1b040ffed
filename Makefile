# Every target sets up what it needs; what it builds stands in .venv and .coinstream, nowhere else.
# Words of the set-up go to stderr, so that `make demo ARGS=--json` leaves one JSON object on stdout.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# The tests that fit in five minutes on two cores; `make test-all` runs what they leave out.
QUICK := not slow

.PHONY: help setup demo test test-all check bench bench-peers schemas clean

help:
	@echo "make demo      set up and run everything on this machine; ARGS='--duration 60 --json'"
	@echo "make test      set up and run the tests that fit in five minutes, real servers included"
	@echo "make test-all  the rest of the tests: long faults, long properties, end to end"
	@echo "make check     ruff, mypy strict, import contracts, unit and property tests"
	@echo "make bench     measure, and write docs/benchmarks.md; ARGS='--only postgres --repetitions 3'"
	@echo "make setup     only make .venv; .venv/bin/coinstream then works"

setup:
	@$(PYTHON) tools/setup_environment.py

demo: setup
	@$(BIN)/coinstream demo $(ARGS)

test: setup
	@$(PYTEST) tests -m "$(QUICK)" $(ARGS)

test-all: setup
	@HYPOTHESIS_PROFILE=nightly $(PYTEST) tests/property $(ARGS)
	@$(PYTEST) tests -m "not ($(QUICK))" $(ARGS)

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(PYTEST) tests/unit tests/property -m "$(QUICK)" $(ARGS)

bench: setup
	@$(BIN)/python -m benchmarks $(ARGS)

# What coinstream is measured beside, in an environment of its own; `make bench` shows what is there.
bench-peers: setup
	@$(BIN)/python benchmarks/peers/install.py

# The JSON Schemas of docs/schemas, from the code; a test fails when they differ.
schemas: setup
	@$(BIN)/python tools/write_schemas.py

clean:
	@rm -rf .venv .venv-peers .coinstream .mypy_cache .ruff_cache .pytest_cache .hypothesis
