# Fleetward. `make demo` shows it, `make test` proves it; both set everything up by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
DEVICES ?= 25
# Files of tests side by side, two more than there are processors, since those of live parts mostly wait; four at most.
# In the order they are found in, so that no long file is left for the end.
PROCESSORS := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
SIDE_BY_SIDE ?= -n $(shell expr $(PROCESSORS) + 2) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo test test-core check bench package parts docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       watch $(DEVICES) devices come up (DEVICES=n; ONCE=1: ends by itself; HSM=1: keys in SoftHSM2;"
	@echo "                MOSIP=pms-1.1, masterdata-1.1 or crypto-only: with a MOSIP beside it; AWAY=60: cut for a minute)"
	@echo "make test       everything: checks, tests, live parts, wheel and sdist in an empty environment"
	@echo "make test-core  the same without live parts from Debian; says what it left out"
	@echo "make check      ruff and mypy"
	@echo "make bench      figures, as ratios against a baseline in the same run"
	@echo "make clean      remove what these made"

$(STAMP): pyproject.toml deploy/constraints.txt
	@echo "== environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Fleetward needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install -q -c deploy/constraints.txt -e '.[all]' --group dev
	@touch $@

demo: $(STAMP)
	@$(BIN)/fleetward demo --devices $(DEVICES) $(if $(ONCE),--once) $(if $(AWAY),--away $(AWAY)) $(if $(HSM),--hsm) $(if $(MOSIP),--mosip $(MOSIP))

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

parts:
	@sh deploy/parts.sh install

test: $(STAMP) parts check
	@status=0; \
	$(BIN)/pytest -q $(SIDE_BY_SIDE) --junitxml=build/junit.xml || status=1; \
	$(MAKE) --no-print-directory package || status=1; \
	sh deploy/parts.sh missing || status=1; \
	exit $$status

test-core: $(STAMP) check
	$(BIN)/pytest -q $(SIDE_BY_SIDE) --deselect-parts
	@$(MAKE) --no-print-directory package
	@echo "left out, since they need parts from Debian (deploy/apt.txt): the tests marked 'part'"

package: $(STAMP)
	@echo "== wheel and sdist, each installed in an empty environment"
	@sh deploy/package.sh $(BIN)/python

bench: $(STAMP)
	@$(BIN)/python -m tests.bench

docs: $(STAMP)
	@$(BIN)/python -m fleetward_sandbox.docs

clean:
	rm -rf $(VENV) build dist demo-run .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
