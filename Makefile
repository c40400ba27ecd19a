# The one front door. `make` lists what there is; every target sets itself up in .venv first.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup check lint format types imports pyright test coverage schedules demo bench sim torture large lock clean

PY := .venv/bin/python
WORKLOAD ?= $(if $(STORE),refactor,refactor misbehave)
# Half of their time tests wait for a timer, a disk or a process: three of them keep two cores busy.
WORKERS ?= 3
# They take any branch that there is, but need no tracer to find what is wrong: with one they take twice as long.
SCHEDULES := tests/rules/test_journal_schedules.py
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

# Variables reach the scripts through the environment: make sim SEEDS=5000, make torture KILLS=500, make demo KILLS=10 SEED=7,
# make demo WORKLOAD=report ROWS=3000000, make demo STORE=postgres

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## make or refresh .venv (PYTHON=… chooses the interpreter)
	@sh tools/setup.sh

lint: setup
	@$(PY) -m ruff format --check --output-format concise . || { echo "lint: run 'make format'" >&2; exit 1; }
	@$(PY) -m ruff check --output-format concise .

format: setup ## format, and fix what ruff can fix
	@$(PY) -m ruff check --fix-only --quiet . ; $(PY) -m ruff format .

types: setup
	@$(PY) -m mypy --strict src

imports: setup
	@.venv/bin/lint-imports --no-logo

# pyright runs on node. It is not assumed on a bare machine, and never downloaded.
pyright: setup
	@if command -v node >/dev/null 2>&1; then $(PY) -m pyright; \
	else echo "pyright: skipped, no node on PATH (mypy --strict did run)"; fi

check: lint types imports pyright ## the quick part: format, lint, types, import contracts

test: setup ## everything CI runs: lint, types, import contracts, all tests
	@$(MAKE) --no-print-directory -j 2 coverage lint types imports schedules
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal -q --ignore tests/rules
	@echo "make test: format, lint, types, import contracts and tests passed on $$($(PY) -V)"

coverage: setup ## the rules are pure, so every branch of theirs is tested
	@$(PY) -m coverage run -m pytest -q tests/rules --ignore $(SCHEDULES)
	@$(PY) -m coverage report --include 'src/holdfast/rules/*' --fail-under 100

schedules: setup # of the rules, too
	@$(PY) -m pytest -q $(SCHEDULES)

demo: setup ## a real codebase refactored, killed and resumed before your eyes; then runs that misbehave (WORKLOAD=report: a data report)
	@for workload in $(WORKLOAD); do test -f examples/$$workload/demo.py || \
	{ echo "demo: there is no workload '$$workload': WORKLOAD=refactor, report or misbehave" >&2; exit 2; }; done
	@if test -n "$(STORE)" && test "$(WORKLOAD)" != refactor; then \
	echo "demo: STORE=$(STORE) is for WORKLOAD=refactor; the others use a file" >&2; exit 2; fi
	@for workload in $(WORKLOAD); do $(PY) -m examples.$$workload.demo || exit; done

bench: setup ## the performance promises, measured beside bare drivers and peers (ONLY="resume imports", STORE=postgres)
	@PYTHONPATH=. $(PY) bench/run.py

sim: setup ## the simulation, any number of seeds (SEEDS=2000)
	@PYTHONPATH=. $(PY) tests/sim/run.py

torture: setup ## real processes killed at random (KILLS=500); STORE=postgres: hosts, workers and the server (MINUTES=5)
	@case "$(STORE)" in "" | sqlite) PYTHONPATH=. $(PY) tests/processes/torture.py ;; \
	postgres) PYTHONPATH=. $(PY) tests/hosts/torture.py ;; \
	*) echo "torture: there is no store '$(STORE)': STORE=sqlite or postgres" >&2; exit 2 ;; esac

large: setup ## an artifact of a gigabyte in bounded memory (MIB=1024)
	@$(PY) -m pytest -q -s -m torture tests/processes/test_artifacts.py

lock: setup ## refresh requirements/*.txt from pyproject.toml: hashes, and no host's name
	@sh tools/lock.sh
	@sh tools/setup.sh

clean: ## remove what can be made again
	rm -rf .venv .venv.lock .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* .demo dist build
