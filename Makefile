# Two commands: `make serve` and `make test`. Everything else is a part of them; `make help` lists it.
# Needs Python 3.11 or newer with venv and pip; Node 20 or newer for the chat page.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
PORT ?= 8080
HOST ?= 127.0.0.1
# More flags for `sluice serve`, e.g. ARGS="--workers 2 --model ./my-model"
ARGS ?=

# How long `make fuzz` runs each harness.
SECONDS ?= 60

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
# A test that passes at its second try is shown as "rerun": real processes on a busy machine may be late once.
PYTEST := $(BIN)/python -m pytest --reruns 1 --reruns-delay 1
# Compiled modules make every later start faster.
unexport PYTHONDONTWRITEBYTECODE

PACKAGES := gateway engine_adapter cache kernels
WEB_SOURCES := $(shell find web -type f -not -path 'web/node_modules/*' -not -path 'web/dist/*' 2>/dev/null)
HAVE_NODE := $(shell node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null && echo yes)
BROWSER := $(and $(HAVE_NODE),$(shell command -v chromium))

.DEFAULT_GOAL := help

##@ The two commands

.PHONY: serve
serve: $(STAMPS)/engine page ## Install what is missing, then serve the shipped model on http://127.0.0.1:$PORT
	@exec $(BIN)/sluice serve --host $(HOST) --port $(PORT) --state-dir .sluice $(ARGS)

.PHONY: test
test: lint unit contract web-test e2e ## Every check: lint, unit, contract, page, end to end

##@ Parts of make test

.PHONY: lint
lint: $(STAMPS)/dev ## ruff, mypy --strict, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: unit
unit: $(STAMPS)/dev $(STAMPS)/engine ## Tests that start no engine, under a minute
	$(PYTEST) tests/unit -q -n auto -m "not vllm and not gpu and not slow"

.PHONY: contract
contract: $(STAMPS)/dev $(STAMPS)/engine ## Every implementation of an interface against the same suite
	$(PYTEST) tests/contract -q -m "not vllm and not gpu"

.PHONY: e2e
e2e: $(STAMPS)/dev $(STAMPS)/engine page ## Whole gateways, before fake engines and a real vLLM worker, and the page
	$(PYTEST) tests/e2e -q -m "not gpu$(if $(BROWSER),, and not browser)"
	$(PYTEST) tests/unit tests/contract -q -m "vllm or (slow and not gpu)" || [ $$? -eq 5 ] # 5: there are none

.PHONY: browser
browser: $(STAMPS)/dev $(STAMPS)/engine page ## Only the chat page in a real browser
	$(PYTEST) tests/e2e/browser -q

.PHONY: web-test
web-test: ## The page's own lint, types and tests (skipped without Node)
ifeq ($(HAVE_NODE),yes)
	@$(MAKE) --no-print-directory web/node_modules/.package-lock.json
	cd web && npm run --silent check
else
	@echo "page tests skipped: they need Node 20 or newer"
endif

##@ Other

.PHONY: doctor
doctor: $(STAMPS)/base ## Look for what is wrong with this machine or this installation
	@$(BIN)/sluice doctor --host $(HOST) --port $(PORT)

.PHONY: page
page: ## Build the chat page if its sources changed
ifeq ($(HAVE_NODE),yes)
	@$(MAKE) --no-print-directory web/dist/index.html || \
	  echo "The chat page could not be built; the API works without it."
else
	@echo "The chat page is not built: that needs Node 20 or newer. The API works without it."
endif

.PHONY: loadtest
loadtest: $(STAMPS)/loadtest ## One minute of chat users against fake engines, with a table at the end
	PYTHON=$(BIN)/python loadtests/run.sh

.PHONY: fuzz
fuzz: $(STAMPS)/fuzz ## Fuzz the parsers, each for SECONDS (60)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

.PHONY: clean
clean: ## Remove what was built, the Python environment included
	rm -rf $(VENV) web/dist web/node_modules .sluice build *.egg-info .mypy_cache .ruff_cache .import_linter_cache
	find $(PACKAGES) tests loadtests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What is installed. Each stamp is older than what it was made from, or it is made again.

$(STAMPS)/venv:
	@test -n "$(PYTHON)" || { echo "no python3 found: install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is too old: install Python 3.11 or newer, or run make with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/base: pyproject.toml $(STAMPS)/venv
	$(BIN)/python -m pip install --quiet --no-warn-conflicts -e '.[kv,webrtc]'
	@touch $@

$(STAMPS)/engine: $(STAMPS)/base engine_adapter/vllm/pin.py $(wildcard engine_adapter/requirements/*.txt)
	$(BIN)/sluice install-engine
	@touch $@

$(STAMPS)/dev: $(STAMPS)/base
	$(BIN)/python -m pip install --quiet --no-warn-conflicts -e '.[dev]'
	@touch $@

$(STAMPS)/fuzz: $(STAMPS)/base
	$(BIN)/python -m pip install --quiet --no-warn-conflicts -e '.[fuzz]'
	@touch $@

$(STAMPS)/loadtest: $(STAMPS)/base
	$(BIN)/python -m pip install --quiet --no-warn-conflicts -e '.[loadtest]'
	@touch $@

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

web/dist/index.html: web/node_modules/.package-lock.json $(WEB_SOURCES)
	cd web && npm run --silent build
	@touch $@
