# Targets: demo, demo-deep, cluster, cluster-stop, test, test-long, test-yarn, check, schedules, siege, mutants, bench, pack, clean.
# Every one sets up .venv first (scripts/setup says what is missing).
.PHONY: help setup demo demo-deep cluster cluster-stop check test test-long test-yarn schedules siege mutants bench pack clean
.DEFAULT_GOAL := help

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -q

help:
	@echo 'make demo   train logistic regression on real data; ARGS="--input FILE ..." for your own (--help lists all)'
	@echo 'make demo-deep  train DeepFM on real data, and draw its curve; installs torch first, 2 minutes and 6 GB; ARGS as above'
	@echo 'make cluster  HDFS and YARN on this machine, to try things on, until Ctrl-C or make cluster-stop; needs Java and Maven'
	@echo 'make test   style, types and the whole test suite'
	@echo 'make test-long  more cases, most of them of faults, half an hour; installs torch'
	@echo 'make test-yarn  all tests on YARN and HDFS, a quarter of an hour; make test has the first of them'
	@echo 'make check  style and types only'
	@echo 'make schedules  simulated schedules by seed, to the first that breaks a promise: COUNT=1000000 SEED=1'
	@echo 'make siege  hostile frames of peers and of strangers against real processes, half an hour: FRAMES=1000000 SEED=1'
	@echo 'make mutants    breaks one invariant at a time and says which test catches it'
	@echo 'make bench  push and pull of 5 M keys; benchmarks/README.md names the others'
	@echo 'make pack   out/environment.tar.gz: Python, sparkps and its compiled kernels for executors; ARGS="more packages"'
	@echo 'make clean  removes what the targets made, .venv excepted'

setup:
	@scripts/setup

demo: setup
	@scripts/demo $(ARGS)

demo-deep: setup
	@scripts/demo-deep $(ARGS)

cluster: setup
	@scripts/cluster $(ARGS)

cluster-stop:
	@scripts/cluster --stop

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	@scripts/test

test-long: setup
	@scripts/torch
	$(PYTEST) -m long tests/cluster tests/faults tests/spark tests/deep

test-yarn: setup
	$(PYTEST) tests/yarn

COUNT ?= 100000
SEED ?= 1
schedules: setup
	$(BIN)/python -m tests.harness.schedules --count $(COUNT) --seed $(SEED) $(ARGS)

FRAMES ?= 1000000
siege: setup
	$(BIN)/python -m tests.harness.siege --frames $(FRAMES) --seed $(SEED) $(ARGS)
	$(BIN)/python -m tests.harness.siege --frames $(FRAMES) --seed $(SEED) --tcp $(ARGS)
	$(BIN)/python -m tests.harness.strangers --frames $(FRAMES) --seed $(SEED) $(ARGS)

mutants: setup
	$(BIN)/python -m tests.mutants $(ARGS)

bench: setup
	$(BIN)/python -m benchmarks.push_pull $(ARGS)

pack: setup
	@scripts/pack $(ARGS)

clean:
	rm -rf out build dist spark-warehouse metastore_db derby.log artifacts .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find sparkps tests jobs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
