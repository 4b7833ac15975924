# Every target sets up what it needs, from nothing. `make help` lists them.

# 3.11 first: the versions in constraints.txt were chosen with it.
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info)' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Three workers on two cores: much of a test is a compiler at work, or a process that starts. Idle OpenMP threads sleep,
# or they would spin against the other workers.
JOBS ?= 3
OLDER_TRITON := triton==3.6.0
PYTEST_ARGS ?=
# What is imported is compiled then, and kept; all of torch would take a minute.
PIP_INSTALL = $(BIN)/python -m pip install --quiet --progress-bar off --no-compile

# Compiled modules are kept even where the environment says otherwise: the tests start hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help setup compiler demo test pytest thorough lint lint-kernels format bench bench-backward bench-families gpu wheel clean distclean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup compiler  ## compile specs the library has never seen, run them in a real model, race PyTorch
	$(BIN)/python examples/demo.py

test: setup compiler  ## everything that must hold before a change goes in
	@# Side by side: the types of the package take one core for most of a minute.
	$(MAKE) --no-print-directory -j2 lint pytest

pytest: setup compiler  ## the tests alone; PYTEST_ARGS="-k masks -x" passes options on
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(PYTEST_ARGS)

thorough: setup compiler  ## every test, kernels built with the options they ship with: before a release, about an hour
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(JOBS) --optimized $(PYTEST_ARGS)

lint: setup  ## style, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-kernels: setup  ## build and lint every Triton kernel that changed since it was linted (all of them: half an hour)
	$(BIN)/python -m tests.codegen.backends.triton.ledger --jobs 2

format: setup  ## rewrite the tree in the style that lint asks for
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup compiler  ## the CPU table of the forward, next to PyTorch, on a quiet machine
	$(BIN)/python -m benchmarks.cpu

bench-backward: setup compiler  ## the CPU table of forward + backward: variants, memory and overhead as well
	$(BIN)/python -m benchmarks.cpu --backward

bench-families: setup compiler  ## the CPU table of sparse mechanisms beside dense attention
	$(BIN)/python -m benchmarks.cpu --families

# Sets up nothing: the package need not be installed, and python3 is that of a machine with a GPU, torch and triton, and
# perhaps no network (make gpu PYTHON=... names another). Each command ends within nine minutes; the next run goes on
# where it stopped. GPU_ARGS are options of all three, such as --retry.
gpu: PYTHON = python3
gpu: GPU_ARGS ?=
gpu:  ## on a machine with a GPU: oracle tests, every config, the H200 table (benchmarks/results/<device>)
	PYTHONPATH=. $(PYTHON) -m benchmarks.gpu check --sanitize $(GPU_ARGS)
	PYTHONPATH=. $(PYTHON) -m benchmarks.gpu tune $(GPU_ARGS)
	PYTHONPATH=. $(PYTHON) -m benchmarks.gpu table $(GPU_ARGS)

wheel: setup  ## build dist/attngen-*.whl
	$(BIN)/python -m build --wheel --no-isolation

setup: $(STAMP)  ## the virtual environment .venv (done by every other target)

# The stamp is written last: an installation that was cut off is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "attngen needs Python 3.11 or newer; install it, or name it: make PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): a minute or two, once"
	$(PIP_INSTALL) -c constraints.txt -e '.[test,tune,plot]'
	@# The oldest Triton that is supported builds kernels in tests. It needs nothing that is not there already.
	$(PIP_INSTALL) --no-deps --upgrade --target $(VENV)/triton-older \
		$(OLDER_TRITON) || echo "NOTE: no $(OLDER_TRITON) here: its tests are skipped."
	@touch $@

compiler:
	@command -v "$${CXX:-g++}" >/dev/null || command -v clang++ >/dev/null || \
		echo "NOTE: no C++ compiler (g++ or clang++, or set CXX): kernels fall back to the slow reference."

clean:  ## remove what was built; the environment stays
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find attngen tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove the environment too
	rm -rf $(VENV)
