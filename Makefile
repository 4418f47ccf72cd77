# `make` or `make help` lists the commands. Requires make and Python 3.11 or newer.

# The first Python that is new enough; else python3, so that the bootstrap reports its version.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=python3; done; echo "$$python")
BIN := .venv/bin
# The Python files that are checked.
SOURCES := app ops tasks migrations tests wsgi.py

# PostgreSQL 15 of Debian, and the tests that depend on the version of PostgreSQL.
PG15 := /usr/lib/postgresql/15/bin
SQL_TESTS := tests/repositories tests/services tests/contracts/test_migrations.py tests/contracts/test_keys.py tests/tls \
	tests/ops/doctor tests/ops/indexes tests/ops/backup

# Settings for `flask db upgrade --sql`, which connects to no database.
OFFLINE := DATABASE_URL=postgresql://offline/none JWT_SECRET_KEY=offline-offline-offline-offline-offline

.DEFAULT_GOAL := help
.PHONY: help up monitoring test test-pg15 check generate fuzz clients mcp faults soak bench fmt lock clean bootstrap bootstrap-dev

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: bootstrap  ## Run the platform on this machine until Ctrl-C; settings come from the environment or .env
	@exec $(BIN)/python -m ops.up

monitoring: bootstrap-dev  ## Run Prometheus and Alertmanager on the running `make up` until Ctrl-C
	@exec $(BIN)/python -m ops.up.monitoring

test: bootstrap-dev  ## Run all tests; TESTS="-n 0 -k word tests/api" are arguments for pytest
	@$(BIN)/pytest $(TESTS)

test-pg15: bootstrap-dev  ## Run the SQL tests on PostgreSQL 15, the oldest supported version; PG15= is the folder of its programs
	@TEST_DATABASE_URL= PARLEY_POSTGRES_BIN=$(PG15) $(BIN)/pytest $(SQL_TESTS) $(TESTS)

check: bootstrap-dev  ## Check style, types, imports, generated files and the locks of migrations
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m ops.generate --check
	@sql=$$(mktemp -d); $(OFFLINE) $(BIN)/flask db upgrade --sql >$$sql/migrations.sql 2>$$sql/log || cat $$sql/log >&2; \
		test -s $$sql/migrations.sql && $(BIN)/squawk $$sql/migrations.sql; status=$$?; rm -rf $$sql; exit $$status

generate: bootstrap-dev  ## Write the pages and files that are generated from the code
	@$(BIN)/python -m ops.generate

fuzz: bootstrap-dev  ## Fuzz the API with schemathesis and a stateful model, for minutes; SEED=1 repeats a run
	@seed=$(or $(SEED),$$($(BIN)/python -c 'import secrets; print(secrets.randbelow(10**9))')); echo "SEED=$$seed"; \
		FUZZ_SEED=$$seed FUZZ_EXAMPLES=300 $(BIN)/pytest --timeout 1800 tests/contracts/test_schemathesis.py tests/faults/test_api_machine.py $(TESTS)

clients: bootstrap-dev  ## Lint the OpenAPI document and generate clients in TypeScript and Python; fetches Node.js 22 and npm packages
	@$(BIN)/python -m tests.clients.install
	@$(BIN)/pytest -n 0 tests/clients tests/contracts/test_python_client.py $(TESTS)

mcp: bootstrap-dev  ## Run the MCP conformance suite and the official MCP clients; fetches Node.js 24 and npm packages
	@$(BIN)/python -m tests.mcp.install
	@$(BIN)/pytest -n 0 tests/mcp $(TESTS)

faults: bootstrap-dev  ## Kill processes under load, then check the data for lost or inconsistent turns; KILLS=300 SEED=1
	@exec $(BIN)/python -m tests.faults $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED))

soak: bootstrap-dev  ## Chat for SECONDS=300 and check that no process leaks memory
	@exec $(BIN)/python -m tests.faults.soak $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

bench: bootstrap-dev  ## Measure turns, streams, statements and commands; BENCH="streams --streams 1000" are arguments
	@exec $(BIN)/python -m tests.bench $(BENCH)

fmt: bootstrap-dev  ## Format the code, and fix what the linter can fix
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES); status=$$?; $(BIN)/ruff format --quiet $(SOURCES); exit $$status

lock: bootstrap-dev  ## Lock the dependencies of pyproject.toml with hashes; UPGRADE=--upgrade takes newer versions
	@$(BIN)/uv pip compile pyproject.toml --group build --universal --python-version 3.11 --generate-hashes --no-annotate \
		--no-header --quiet $(UPGRADE) --output-file requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --group build --group dev --constraints requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --quiet $(UPGRADE) --output-file requirements-dev.lock
	@for peers in clients mcp; do $(BIN)/uv pip compile tests/$$peers/requirements.in --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --quiet $(UPGRADE) --output-file tests/$$peers/requirements.lock; done

clean:  ## Remove .venv and caches; data (.parley) and settings (.env) stay
	@rm -rf .venv *.egg-info build __pycache__ .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	@find app ops tasks migrations tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

bootstrap:
	@$(PYTHON) ops/up/bootstrap.py requirements.lock

bootstrap-dev:
	@$(PYTHON) ops/up/bootstrap.py requirements-dev.lock
