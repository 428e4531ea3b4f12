# Two commands on a fresh clone: `make run` and `make test`. Everything else is for work on Level5 itself.
# All of them set up .venv by themselves, from the hash-locked requirements and nothing else.

SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
UP_FLAGS ?= --sandbox
# Three times as many as a small machine has cores: most of the time a test waits, for processes that start and for clocks. Files whose tests share an
# appliance stay together, see tests/distribution.py; how they are run beside one another, tests/parallel.py.
TEST_PROCESSES ?= 6
PARALLEL = --processes $(TEST_PROCESSES)
# Byte code is written whatever the environment says: the tests start hundreds of processes.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -q
TEST_FLAGS ?=
LOCK_FLAGS ?=
# Imported once at the installation, so that their byte code is kept: uv keeps none, and pip none for `-O`, which the roles run with; and where
# Python is told to write none each of them would compile thousands of modules at every start.
PROGRAMS = import cli.main, addons.worker, chainwatch.__main__, cli.poster, control.__main__, sandbox.__main__, sandbox.chain.__main__
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
# From the root folder: uv would apply what pyproject.toml overrides for the gateway alone.
UV = $(CURDIR)/$(BIN)/uv --directory / --quiet
UV_INSTALL = $(UV) pip install --python $(CURDIR)/$(BIN)/python --no-deps
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.12 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header $(LOCK_FLAGS)
# Real clients, for tests: the Python ones in an environment each, the npm ones together; and a real OpenID Connect provider, to sign in by.
CLIENTS := .venv-clients
PYTHON_CLIENTS := aider langchain llm oidc pydantic-ai
NPM_CLIENTS ?= npm-clients
CLIENT_LOCKS := $(CURDIR)/tests/clients/requirements
PEERS := .venv-peers
PEER_FILES := $(CURDIR)/bench/peers
CLIENT_LOCK = $(UV) pip compile --universal --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate $(LOCK_FLAGS)

.PHONY: help run test run-tests test-unit test-integration test-clients python-clients npm-clients check format lint types imports settings bench bench-soak bench-profile bench-peers bench-deposits lock clean

help: ## what each target does
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /	/' | expand -t 18

run: $(VENV)/.project ## start the appliance (UP_FLAGS, by default --sandbox)
	@exec $(BIN)/level5 up $(UP_FLAGS)

test: $(VENV)/.project ## everything: style, types, imports and all tests but the heavy ones of test-clients
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target lint imports $(CLIENTS)/oidc/.made
	@$(MAKE) --no-print-directory --jobs=2 types run-tests # beside each other: to collect the tests takes one core, and so do types

run-tests: $(VENV)/.project
	$(PYTEST) $(PARALLEL) $(TEST_FLAGS)

test-unit: $(VENV)/.project ## tests that open no socket
	$(PYTEST) tests/unit tests/properties $(TEST_FLAGS)

test-integration: $(VENV)/.project ## tests on a real Postgres, Valkey and gateway
	$(PYTEST) $(PARALLEL) tests/integration tests/proxy tests/faults $(TEST_FLAGS)

test-clients: $(VENV)/.project python-clients $(NPM_CLIENTS) ## the clients that `make test` leaves out: all that have environments of their own
	$(PYTEST) $(PARALLEL) -m clients tests/clients $(TEST_FLAGS)

python-clients: $(PYTHON_CLIENTS:%=$(CLIENTS)/%/.made)

npm-clients: $(CLIENTS)/npm/.made

check: lint types imports test-unit ## what must pass before every commit

format: $(VENV)/.project ## put the code into its standard form
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

lint: $(VENV)/.project
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .

types: $(VENV)/.project
	$(BIN)/mypy

imports: $(VENV)/.project
	$(BIN)/lint-imports

settings: $(VENV)/.project ## write config/level5.toml, its schema, the SDK's price table and docs/clients.md anew
	$(BIN)/python -m config.schema
	$(BIN)/python -m config.clients.page
	$(BIN)/python sdk/generate_prices.py

bench: $(VENV)/.project ## measure the gateway beside nginx, bare mitmdump and the peers that are there; writes docs/performance.md
	$(BIN)/python -m bench --page docs/performance.md $(BENCH_FLAGS)

bench-peers: $(PEERS)/litellm/.made $(PEERS)/portkey/.made ## install the peers that `make bench` measures beside us (0.7 GB)

bench-soak: $(VENV)/.project ## a million requests and an hour of streams: does anything grow? writes docs/performance.md
	$(BIN)/python -m bench.soak --page docs/performance.md $(BENCH_FLAGS)

bench-profile: $(PEERS)/profiler/.made $(VENV)/.project ## where a worker's time goes; writes docs/performance.md
	$(BIN)/python -m bench.hot_spots --page docs/performance.md $(BENCH_FLAGS)

bench-deposits: $(VENV)/.project ## measure how fast deposits on chain are credited, and what providers are asked for it
	$(BIN)/python -m bench.deposits $(BENCH_FLAGS)

lock: $(VENV)/.project ## solve the requirements anew (LOCK_FLAGS=--upgrade for newer releases)
	$(LOCK) --output-file requirements.lock pyproject.toml
	$(LOCK) --output-file requirements-dev.lock --extra dev --constraint requirements.lock pyproject.toml
	for name in $(filter-out aider,$(PYTHON_CLIENTS)); do \
		$(CLIENT_LOCK) --python-version 3.12 --output-file $(CLIENT_LOCKS)/$$name.lock $(CLIENT_LOCKS)/$$name.in || exit 1; \
	done
	$(CLIENT_LOCK) --python-version 3.10 --output-file $(CLIENT_LOCKS)/aider.lock $(CLIENT_LOCKS)/aider.in
	cd tests/clients/npm && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund
	$(CLIENT_LOCK) --python-version 3.12 --overrides $(PEER_FILES)/litellm-overrides.txt --output-file $(PEER_FILES)/litellm.lock $(PEER_FILES)/litellm.in
	$(CLIENT_LOCK) --python-version 3.12 --output-file $(PEER_FILES)/profiler.lock $(PEER_FILES)/profiler.in
	cd bench/peers/portkey && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund

clean: ## remove everything that was made here
	rm -rf $(VENV) $(CLIENTS) $(PEERS) build sdk/build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info sdk/*.egg-info

# A lock that changed is installed into the same environment; one whose interpreter is gone is made anew. uv takes a third of pip's time; where
# it does not get at what pip gets at, for only pip is told of a mirror, pip does it all.
$(VENV)/.locked: requirements-dev.lock deploy/find-python.sh
	@python=$$(./deploy/find-python.sh) || exit 1; \
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null \
		|| { echo "making $(VENV) with $$python"; "$$python" -m venv --clear $(VENV); }
	@echo "installing the locked requirements"
	@awk '/^[^ ]/ { chosen = /^uv==/ } chosen' requirements-dev.lock > $(VENV)/uv.txt
	@$(PIP_INSTALL) --require-hashes -r $(VENV)/uv.txt
	@$(UV_INSTALL) --require-hashes -r $(CURDIR)/requirements-dev.lock || $(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.project: $(VENV)/.locked pyproject.toml sdk/pyproject.toml
	@$(UV_INSTALL) --no-build-isolation -e $(CURDIR) -e $(CURDIR)/sdk || $(PIP_INSTALL) --no-build-isolation -e . -e ./sdk
	@unset PYTHONDONTWRITEBYTECODE; $(BIN)/python -c '$(PROGRAMS)' & plain=$$!; $(BIN)/python -O -c '$(PROGRAMS)' && wait $$plain
	@touch $@

$(CLIENTS)/%/.made: tests/clients/requirements/%.lock tests/clients/make-environment.sh | $(VENV)/.locked
	@echo "installing the client $*"
	@./tests/clients/make-environment.sh $* $(CLIENTS)/$*

$(CLIENTS)/npm/.made: tests/clients/npm/package.json tests/clients/npm/package-lock.json
	@echo "installing the npm clients"
	@mkdir -p $(@D) && cp tests/clients/npm/*.json $(@D)/
	@cd $(@D) && npm install --no-audit --no-fund --loglevel=error # not ci: it insists on what is for other systems
	@touch $@

$(PEERS)/portkey/.made: bench/peers/portkey/package.json bench/peers/portkey/package-lock.json
	@echo "installing the peer portkey"
	@mkdir -p $(@D) && cp bench/peers/portkey/*.json $(@D)/
	@cd $(@D) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(PEERS)/%/.made: bench/peers/%.lock | $(VENV)/.locked
	@echo "installing $*"
	@rm -rf $(@D)
	@$(UV) venv --no-project --python $(CURDIR)/$(BIN)/python $(CURDIR)/$(@D)
	@$(UV) pip install --python $(CURDIR)/$(@D)/bin/python --no-deps --require-hashes --requirements $(CURDIR)/$<
	@touch $@
