# `make` or `make help` lists what there is. Needs nothing but make and a Python 3.11 or newer.

# The first Python that is new enough; python3 if none is, so that the bootstrap can say what is wrong.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=python3; done; echo "$$python")
BIN := .venv/bin
# The Python files that are checked; a folder without any yet is no fault.
SOURCES := app ops tasks migrations tests wsgi.py

# Debian's; and what is run on it: the rest of the suite, on PostgreSQL 18, asks it nothing else.
PG15 := /usr/lib/postgresql/15/bin
SPEAKS_SQL := tests/repositories tests/services tests/contracts/test_migrations.py tests/contracts/test_keys.py tests/tls \
	tests/ops/doctor tests/ops/indexes tests/ops/backup

# Enough settings to build the application without a database: Alembic writes the SQL and connects to nothing.
OFFLINE := DATABASE_URL=postgresql://offline/none JWT_SECRET_KEY=offline-offline-offline-offline-offline

.DEFAULT_GOAL := help
.PHONY: help up test test-pg15 check fuzz faults soak bench fmt lock clean bootstrap bootstrap-dev

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: bootstrap  ## Run the platform on this machine until Ctrl-C; settings come from the environment or .env
	@exec $(BIN)/python -m ops.up

test: bootstrap-dev  ## Run all tests; TESTS="-n 0 -k word tests/api" are arguments for pytest
	@$(BIN)/pytest $(TESTS)

test-pg15: bootstrap-dev  ## Run what speaks SQL on PostgreSQL 15, the oldest one; PG15= says where its programs are
	@TEST_DATABASE_URL= PARLEY_POSTGRES_BIN=$(PG15) $(BIN)/pytest $(SPEAKS_SQL) $(TESTS)

check: bootstrap-dev  ## Look for faults without running anything: style, types, imports, migrations' locks
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(OFFLINE) $(BIN)/flask db upgrade --sql 2>/dev/null | $(BIN)/squawk

fuzz: bootstrap-dev  ## Ask the API all that its description allows, and have people do whatever they like, for minutes; SEED=1 asks what that seed asked before
	@seed=$(or $(SEED),$$($(BIN)/python -c 'import secrets; print(secrets.randbelow(10**9))')); echo "SEED=$$seed"; \
		FUZZ_SEED=$$seed FUZZ_EXAMPLES=300 $(BIN)/pytest --timeout 1800 tests/contracts/test_schemathesis.py tests/faults/test_api_machine.py $(TESTS)

faults: bootstrap-dev  ## Kill everything hundreds of times under load, then ask PostgreSQL what is left; KILLS=300 SEED=1
	@exec $(BIN)/python -m tests.faults $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED))

soak: bootstrap-dev  ## Let people chat for SECONDS=300, and see whether any process holds more and more memory
	@exec $(BIN)/python -m tests.faults.soak $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

bench: bootstrap-dev  ## Measure turns and streams beside what bounds them; BENCH="streams --streams 1000" are arguments
	@exec $(BIN)/python -m tests.bench $(BENCH)

fmt: bootstrap-dev  ## Put the code into its one format
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

lock: bootstrap-dev  ## Lock the dependencies of pyproject.toml anew, with hashes; UPGRADE=--upgrade takes newer ones
	@$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate \
		--no-header --quiet $(UPGRADE) --output-file requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --group dev --constraints requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --quiet $(UPGRADE) --output-file requirements-dev.lock

clean:  ## Remove what the tools made; data (.parley) and settings (.env) stay
	@rm -rf .venv __pycache__ .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	@find app ops tasks migrations tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

bootstrap:
	@$(PYTHON) ops/bootstrap.py requirements.lock

bootstrap-dev:
	@$(PYTHON) ops/bootstrap.py requirements-dev.lock
