# `make help` lists what there is. Works with GNU make 3.81 (macOS) and newer.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
export PYTHON

COMPONENTS := command dags pipelines tabular registry serving monitor portal
VENVS := .venvs
READY := $(COMPONENTS:%=$(VENVS)/%/.ready)
DEV := $(VENVS)/dev/.ready
RUN := $(VENVS)/dev/bin/python -m

.PHONY: help setup demo up down test check format generate clean shell bench

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(READY) $(VENVS)/.binaries ## every component's environment, Prometheus and Alertmanager (a second time: nothing to do)

demo: setup ## one real turn of the loop; leaves the platform up
	@bin/phaseflow demo

up: setup ## start the platform
	@bin/phaseflow up

down: ## stop the platform; its data stays
	@test ! -x $(VENVS)/command/bin/python || bin/phaseflow down

shell: setup ## a shell in which `phaseflow` is a command
	@PATH="$(CURDIR)/bin:$$PATH" PS1="phaseflow $$ " $${SHELL:-sh}

$(VENVS)/%/.ready: uv.lock bin/environment
	@bin/environment $*
	@touch $@

$(VENVS)/.binaries: $(VENVS)/command/.ready phaseflow/embedded/binaries.py
	@PYTHONPATH="$(CURDIR)" $(VENVS)/command/bin/python -m phaseflow.embedded.binaries
	@touch $@

check: setup $(DEV) ## style, types, import direction, generated files
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(VENVS)/dev/bin/lint-imports --no-logo
	@bin/types
	@bin/generate --check

format: $(DEV) ## format the code
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

test: setup $(DEV) ## unit tests of every component, then the loop against the real processes
	@bin/unit-tests
	tests/isolated $(VENVS)/command/bin/python -m pytest tests

generate: setup $(DEV) ## pipelines, rules and dashboards from the declarations
	@bin/generate

clean: down ## remove the platform's data and caches; environments stay (rm -rf .venvs removes those)
	rm -rf .phaseflow .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENVS)/*' -prune -exec rm -rf {} +
