# Every target sets up what it needs; what it builds stands in .venv and .coinstream, nowhere else.
# Words of the set-up go to stderr, so that `make demo ARGS=--json` leaves one JSON object on stdout.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# The tests that fit in five minutes on two cores; `make test-all` runs what they leave out.
QUICK := not slow

.PHONY: help setup demo prove test test-all soak test-docker check bench bench-peers schemas secrets docker-locks clean

help:
	@echo "make demo      set up and run everything on this machine; ARGS='--duration 60 --json'"
	@echo "make prove     two minutes of load and faults, and what coinstream and a plain script made of them"
	@echo "make test      set up and run the tests that fit in five minutes, real servers included"
	@echo "make test-all  the rest of the tests: long faults, long properties, end to end"
	@echo "make soak      ten minutes of the demo: every minute covered, memory bounded"
	@echo "make check     ruff, mypy strict, import contracts, unit and property tests"
	@echo "make secrets   passwords for compose.yaml, into secrets/; see docs/docker.md"
	@echo "make test-docker  build the image, run compose.yaml on simulated data, compare; wants root and Docker"
	@echo "make bench     measure, and write docs/benchmarks.md; ARGS='--only postgres --repetitions 3'"
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

bench: setup
	@$(BIN)/python -m benchmarks $(ARGS)

# What coinstream is measured beside, in an environment of its own; `make bench` shows what is there.
bench-peers: setup
	@$(BIN)/python benchmarks/peers/install.py

# The JSON Schemas of docs/schemas, from the code; a test fails when they differ.
schemas: setup
	@$(BIN)/python tools/write_schemas.py

# Passwords for compose.yaml, without .venv: who runs containers needs none. Never overwrites.
secrets:
	@$(PYTHON) tools/make_secrets.py $(ARGS)

test-docker: setup
	@$(BIN)/python tests/docker $(ARGS)

# What the image installs: the part of requirements.lock without any extra, and what builds the wheel.
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url \
	--no-annotate --constraint requirements.lock --custom-compile-command "make docker-locks"
docker-locks: setup
	@$(LOCK) pyproject.toml -o requirements.production.lock
	@sed -n '/^requires = /p' pyproject.toml | cut -d'"' -f2 | $(LOCK) - -o requirements.build.lock

clean:
	@rm -rf .venv .venv-plain .venv-peers .coinstream .mypy_cache .ruff_cache .pytest_cache .hypothesis
