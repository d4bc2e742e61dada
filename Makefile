# Each target sets up what it needs in .venv, from nothing but Python 3.11+, make and PyPI; repeat runs are quick.
.PHONY: help up test test-all test-kubernetes lint format bench lock clean
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3.14 python3,\
	$(shell command -v $(name) 2>/dev/null | xargs -r -I{} sh -c '{} -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && echo {}')))
BIN := .venv/bin
READY := .venv/.ready

help:
	@echo 'make up        set up sgxkit in .venv, and run an enclave and prove it: sgxkit up'
	@echo 'make test      unit and system tests'
	@echo 'make test-all  the same, with every exhaustive enumeration run whole'
	@echo 'make test-kubernetes  the charts on a real cluster of one node (root; scripts/cluster_tools.sh first)'
	@echo 'make lint      format, lint, types, import layers'
	@echo 'make bench     speed and memory, beside peers and limits'
	@echo 'make format    rewrite the source in the common format'
	@echo 'make lock      renew requirements-dev.lock from pyproject.toml'
	@echo 'make clean     remove .venv and caches'

$(READY): pyproject.toml requirements-dev.lock scripts/make_environment.py
ifeq ($(PYTHON),)
	@echo 'sgxkit needs Python 3.11 or newer, and found none.' >&2
	@echo 'Debian 12, Ubuntu 24.04: apt install python3    Ubuntu 22.04: apt install python3.11' >&2
	@echo 'Another place: make PYTHON=/path/to/python3.12 ...' >&2
	@exit 1
else
	@$(PYTHON) scripts/make_environment.py
endif

up: $(READY)
	@$(BIN)/sgxkit up || test $$? -le 2
	@echo
	@echo 'sgxkit is installed: $(BIN)/sgxkit --help'

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadscope tests/unit
	$(BIN)/python -m pytest tests/system

test-all: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadscope --exhaustive tests/unit
	$(BIN)/python -m pytest --exhaustive tests/system

lint: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

test-kubernetes: $(READY)
	SGXKIT_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/system/test_k8s_cluster.py

bench: $(READY)
	$(BIN)/python -m benchmarks

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev \
		--no-header --no-annotate --output-file requirements-dev.lock pyproject.toml

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
