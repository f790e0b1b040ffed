# Every target sets up what it needs; what it builds stands in .venv and .coinstream, nowhere else.
# Words of the set-up go to stderr, so that `make demo ARGS=--json` leaves one JSON object on stdout.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# The tests that fit in five minutes on two cores; `make test-all` runs what they leave out.
QUICK := not slow

.PHONY: help setup demo prove test test-all soak check schemas clean

help:
	@echo "make demo      set up and run everything on this machine; ARGS='--duration 60 --json'"
	@echo "make prove     two minutes of load and faults, and what coinstream and a plain script made of them"
	@echo "make test      set up and run the tests that fit in five minutes, real servers included"
	@echo "make test-all  the rest of the tests: long faults, long properties, end to end"
	@echo "make soak      ten minutes of the demo: every minute covered, memory bounded"
	@echo "make check     ruff, mypy strict, import contracts, unit and property tests"
	@echo "make setup     only make .venv; .venv/bin/coinstream then works"

setup:
	@$(PYTHON) tools/setup_environment.py

demo: setup
	@$(BIN)/coinstream demo $(ARGS)

# The plain script's two libraries stand apart: coinstream must not come to lean on them.
.venv-plain: benchmarks/plain_script.lock
	@test -x $(BIN)/uv || $(MAKE) --no-print-directory setup
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $@
	@$(BIN)/uv pip install --quiet --python $@/bin/python --only-binary :all: --require-hashes -r $<
	@touch $@

prove: setup .venv-plain
	@$(BIN)/coinstream prove --beside ".venv-plain/bin/python benchmarks/plain_script.py" $(ARGS)

test: setup
	@$(PYTEST) tests -m "$(QUICK)" $(ARGS)

test-all: setup
	@HYPOTHESIS_PROFILE=nightly $(PYTEST) tests/property $(ARGS)
	@$(PYTEST) tests -m "not ($(QUICK))" $(ARGS)

# What needs minutes of clock; `make test-all` has a short form of it.
soak: setup
	@COINSTREAM_SOAK_S=600 $(PYTEST) -s tests/end_to_end/test_demo_over_minutes.py $(ARGS)

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(PYTEST) tests/unit tests/property -m "$(QUICK)" $(ARGS)

# The JSON Schemas of docs/schemas, from the code; a test fails when they differ.
schemas: setup
	@$(BIN)/python tools/write_schemas.py

clean:
	@rm -rf .venv .venv-plain .coinstream .mypy_cache .ruff_cache .pytest_cache .hypothesis
