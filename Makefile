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

.PHONY: help setup demo up grafana down test test-units test-components test-platform test-projects test-models coverage soak check format generate clean shell images mirror lock-images sbom docs docs-serve cluster cluster-down cloud cloud-down test-terraform test-charts test-cluster test-cluster-all

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

setup: $(READY) $(VENVS)/.binaries ## every component's environment, Prometheus and Alertmanager (a second time: nothing to do)

demo: setup ## one real turn of the loop; leaves the platform up
	@bin/phaseflow --context local demo

up: setup ## start the platform
	@bin/phaseflow --context local up

grafana: setup ## Grafana for this machine, and the platform with it
	@PYTHONPATH="$(CURDIR)" $(VENVS)/command/bin/python -m cli.local.grafana_archive
	@bin/phaseflow --context local up

down: ## stop the platform; its data stays
	@test ! -x $(VENVS)/command/bin/python || bin/phaseflow --context local down

shell: setup ## a shell in which `phaseflow` is a command
	@PATH="$(CURDIR)/bin:$$PATH" PS1="phaseflow $$ " $${SHELL:-sh}

$(VENVS)/%/.ready: uv.lock bin/environment
	@bin/environment $*
	@touch $@

$(VENVS)/.binaries: $(VENVS)/command/.ready cli/local/binaries.py
	@PYTHONPATH="$(CURDIR)" $(VENVS)/command/bin/python -m cli.local.binaries
	@touch $@

check: setup $(DEV) ## style, types, import direction, sizes, generated files
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(VENVS)/dev/bin/lint-imports --no-logo
	$(RUN) pytest --quiet phaseflow/tests/test_structure.py
	@bin/types
	@bin/generate --check
	$(VENVS)/dev/bin/python docs/prose.py
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --quiet --strict

format: $(DEV) ## format the code
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

test: test-units test-platform ## all tests that need neither PyTorch nor a cluster

MODELS := $(VENVS)/torch/.ready $(VENVS)/language/.ready

test-units: setup $(DEV) ## tests of every component
	@bin/unit-tests

test-components: setup $(DEV) $(MODELS) ## tests of every component and of the projects that need PyTorch, as CI runs them
	@bin/unit-tests --projects

test-platform: setup $(DEV) ## the loop against the real processes
	tests/isolated $(VENVS)/command/bin/python -m pytest tests --ignore tests/cluster --durations=40 --durations-min=5

test-projects: setup $(DEV) $(MODELS) ## tests of the projects that need PyTorch, with short trainings on few rows (at first 3 GB to download)
	@bin/model-tests

test-models: setup $(DEV) $(MODELS) ## the same with full trainings too
	@bin/model-tests --full

coverage: setup $(DEV) $(MODELS) ## lines that the component tests run, over all environments; fails below the floor in pyproject.toml
	@rm -rf build/coverage && mkdir -p build/coverage
	@COVERAGE=1 bin/unit-tests
	@COVERAGE=1 bin/model-tests
	@$(RUN) coverage combine --quiet
	@$(RUN) coverage report

MINUTES ?= 30
soak: setup ## MINUTES=30 of load under swaps on the platform that `make demo` leaves up: memory and missing ids
	@PYTHONPATH="$(CURDIR)" $(VENVS)/command/bin/python -m bench.soak --minutes $(MINUTES)

images: ## one container image a component; REGISTRY=… TAG=… name them (the tag of bin/image-tag otherwise), PUSH=1 pushes them for amd64 and arm64
	@bin/images

mirror: $(VENVS)/command/.ready ## copy every image the charts name into REGISTRY, for a cluster that reaches no other
	@test -n "$(REGISTRY)" || { echo "error: name the registry: make mirror REGISTRY=registry.example.com/phaseflow" >&2; exit 2; }
	@TAG="$${TAG:-$$(bin/image-tag)}" PYTHONPATH="$(CURDIR)" $(VENVS)/command/bin/python -m cli.charts mirror "$(REGISTRY)" --own

lock-images: $(VENVS)/command/.ready ## ask the registries for every image's digest, the base's too, and write it into the charts and k8s/images.hcl
	@PYTHONPATH="$(CURDIR)" $(VENVS)/command/bin/python -m cli.charts lock

sbom: $(VENVS)/command/.ready ## bills of materials of every image and of the lock, CycloneDX, in build/sbom
	@$(VENVS)/command/bin/python k8s/sbom.py "$$(command -v uv || echo $(VENVS)/uv/bin/uv)" build/sbom

docs: $(DEV) ## the documentation site in build/site; broken links and anchors are errors
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --quiet --strict

docs-serve: $(DEV) ## the documentation site at http://127.0.0.1:8000, rebuilt while you write
	$(RUN) mkdocs serve

PROFILE ?= small
cluster: $(VENVS)/command/.ready $(VENVS)/tabular/.ready ## a kind cluster with the platform, at first with one turn of the loop (PROFILE=small|kind); again: an upgrade
	@bin/cluster $(PROFILE)

cluster-down: ## remove the kind cluster and all that is in it
	@kind delete cluster --name phaseflow

ENV ?= small
cloud: $(VENVS)/command/.ready ## a platform in a cloud account, at first with one turn of the loop (CLOUD=aws|gcp ENV=small|production); again: an upgrade
	@bin/cloud up "$(CLOUD)" $(ENV)

cloud-down: $(VENVS)/command/.ready ## remove that platform; prints what stays on purpose, such as backups
	@bin/cloud down "$(CLOUD)" $(ENV)

test-terraform: setup $(VENVS)/cloud/.ready ## Terraform's modules, and the environments against moto (needs terraform and helm)
	@bin/test-terraform
	@bin/suite cloud terraform/tests

test-charts: setup ## the charts' manifests, and the login before real programs (needs helm, nginx, Go and npm)
	@bin/suite command cli/charts/tests -m "not nightly"

test-cluster: setup $(DEV) test-charts ## the platform on the cluster that KUBECONFIG names: install, upgrade, loop, login, faults
	@bin/test-cluster -m "not nightly"

test-cluster-all: setup $(DEV) test-charts ## what takes too long for CI: both profiles on kind with upstream's images, upgrades, restore, and test-cluster
	@bin/test-cluster-all

generate: setup $(DEV) ## pipelines, rules and dashboards from the declarations
	@bin/generate

clean: down ## remove the platform's data and caches; environments stay (rm -rf .venvs removes those)
	rm -rf .phaseflow build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENVS)/*' -prune -exec rm -rf {} +
