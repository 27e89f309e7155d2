# Everything streamkit's own development needs. `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Bytecode is kept, the tests' too, which takes half a minute a process to make. Packages are compiled when they are first imported:
# pip would compile the three quarters of them that nobody imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run routes test localstack-test kcl-test simulate exactly-once soak fuzz demo-fanout mutants package lock ci-long validate lint types check bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "streamkit needs Python 3.11 or newer; install it, or name one: make setup PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --no-compile --editable . --group dev
	@touch $@

setup: $(INSTALLED)  ## make .venv, and the local BigQuery beside it: what most targets need
	@$(BIN)/python localstack/setup_bigquery.py

run: setup  ## 100,000 flights and 3,376 airports through streams into BigQuery and CloudSearch (EVENTS=file for others)
	$(BIN)/python -m demo $(EVENTS)

routes: setup  ## the flights' route network in a graph database, and the shortest path between two airports
	@$(BIN)/python localstack/setup_graph.py
	$(BIN)/python -m demo.routes

test: setup  ## run all the tests, on every core
	@$(BIN)/python localstack/setup_graph.py
	-@$(BIN)/python localstack/setup_browser.py
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

localstack-test: setup  ## install and start LocalStack, run the flows of Kinesis, SQS and DynamoDB on it, and stop it
	@$(BIN)/python localstack/setup_localstack.py
	$(BIN)/python -m pytest tests/localstack_flow

kcl-test: setup  ## install the KCL's MultiLangDaemon and LocalStack, and run streamkit kcl under real daemons on it
	@$(BIN)/python localstack/setup_localstack.py
	@$(BIN)/python localstack/setup_kcl.py
	$(BIN)/python -m pytest -s tests/kcl_flow

simulate: setup  ## seeded schedules of failures: N=100000 of them (going on where it was interrupted), or SEED=7 replayed
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--count $(or $(N),10000))

exactly-once: setup  ## 1,000 crashes and 30 killed processes before local-bigquery: no row missing, none twice
	$(BIN)/python -m tests.exactly_once

soak: setup  ## 1,000,000 records with 1 % faults of every kind, there and back, balanced to the record: N=50000 SEED=7 for others
	@$(BIN)/python -m tests.soak --records $(or $(N),1000000) --seed $(or $(SEED),1)

$(VENV)/.fuzz: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --group fuzz || { echo "make fuzz needs atheris, which has wheels for CPython on Linux only; make test replays the corpus without it"; exit 1; }
	@touch $@

fuzz: setup $(VENV)/.fuzz  ## coverage-guided fuzzing of all decoders: SECONDS=30 for each, or TARGET=aggregate alone
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),30) $(if $(TARGET),--target $(TARGET))

$(VENV)/.demo-fanout: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --group demo-fanout
	@touch $@

demo-fanout: setup $(VENV)/.demo-fanout  ## 1 to 20 subscribers of a stream with its limits, three ways; draws docs/fanout.svg, eight minutes
	$(BIN)/python -m demo.fanout --out docs

mutants: setup  ## break the core in one line at a time, and see each breakage caught
	$(BIN)/python -m tests.mutants

package: setup  ## reproducible zips of the functions in processors/, for arm64 and x86-64, into dist/; prints their sizes
	@$(BIN)/python -m deploy.package $(NAME)

$(VENV)/.lock: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --group lock
	@touch $@

lock: setup $(VENV)/.lock  ## write the lock files of the packages anew, with the newest versions
	@$(BIN)/python -m deploy.lock

ci-long: setup  ## what takes hours: simulation, exactly once, soak, fuzzing, mutants, real KCL daemons
	$(MAKE) simulate N=100000
	$(MAKE) exactly-once
	$(MAKE) soak
	$(MAKE) fuzz
	$(MAKE) mutants
	$(MAKE) kcl-test

bench: setup  ## every benchmark beside its peer, as ratios
	@$(BIN)/python localstack/setup_graph.py
	$(BIN)/python -m bench

lint: setup  ## ruff: style and likely mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy, strict
	$(BIN)/mypy

validate: setup  ## sam validate and cfn-lint, offline, on the templates of deploy/ and of a new project
	@$(BIN)/python -m deploy.validate

check: setup  ## lint, types and templates, side by side
	@$(MAKE) --no-print-directory -j3 lint types validate

clean:  ## remove what set-up and the tests made
	rm -rf $(VENV) .local dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
