# Two commands do everything: `make quickstart` and `make test`. Both set up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A GPU's driver decides which build of torch is locked in; `make ACCELERATOR=cpu …` overrules it.
ACCELERATOR ?= $(if $(shell command -v nvidia-smi 2>/dev/null),cuda,cpu)
LOCK := deployments/requirements/$(ACCELERATOR).txt
# Where torch's builds without CUDA are published; any folder or page with the wheel will do.
TORCH_CPU_WHEELS ?= https://download.pytorch.org/whl/cpu/torch/
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
STAMP := $(VENV)/.installed-$(ACCELERATOR)

.PHONY: quickstart test test-slow bench-data bench-scale bench-train check format lock install clean requirements

quickstart: $(STAMP)
	@$(BIN)/athanor run quickstart

test: $(STAMP)
	@$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

test-slow: $(STAMP)
	@$(BIN)/python -m pytest -m slow

# Every data task beside its peers, which are an extra; writes benchmarks/results/data.md (PARTS="rules …": those).
bench-data: $(STAMP)
	@$(PIP) install --constraint $(LOCK) --editable ".[bench]"
	@$(PIP) install --no-deps mistral-common  # for the models in it; it asks for an older NumPy
	@$(BIN)/python -m benchmarks.data $(PARTS)

# Time and memory as a corpus grows to 1 GB of HTML, whole and refreshed; writes benchmarks/results/scale.md
# (SIZES="1 8": only these times 125 MB).
bench-scale: $(STAMP)
	@$(BIN)/python -m benchmarks.scale $(SIZES)

# Training beside nanoGPT and Hugging Face's Trainer; writes benchmarks/results/train.md (PARTS="speed …": those).
bench-train: $(STAMP)
	@$(BIN)/python -m benchmarks.train $(PARTS)

check: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

install: $(STAMP)

$(STAMP): $(LOCK) pyproject.toml
	@$(MAKE) --no-print-directory requirements
	@echo "athanor: setting up $(VENV), once, in a few minutes: torch ($(ACCELERATOR) build) …" >&2
	@$(PYTHON) -m venv $(VENV)
	@grep '^torch==' $(LOCK) > $(VENV)/torch.txt
	@$(PIP) install --retries 1 --no-deps --find-links $(TORCH_CPU_WHEELS) --requirement $(VENV)/torch.txt
	@echo "athanor: … and $$(grep -c == $(LOCK)) locked packages …" >&2
	@$(PIP) install --no-deps --requirement $(LOCK)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.installed-* && touch $@

# One line for what a machine lacks, before anything is downloaded.
requirements:
	@command -v $(PYTHON) >/dev/null || { echo "athanor: no $(PYTHON) found; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "athanor: $$($(PYTHON) --version) is too old; install Python 3.11 or newer and run: make PYTHON=python3.11 quickstart" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "athanor: $(PYTHON) has no venv module; install it (Debian: apt-get install python3-venv)" >&2; exit 2; }
	@command -v $${CXX:-c++} >/dev/null || { echo "athanor: no C++ compiler ($${CXX:-c++}) found; DeepSpeed builds its operators with one (Debian: apt-get install g++)" >&2; exit 2; }
	@$(PYTHON) -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { echo "athanor: Python's C headers are missing; DeepSpeed builds its operators with them (Debian: apt-get install python3-dev)" >&2; exit 2; }

# Both locks from pyproject.toml: the same versions, but for torch's build and CUDA's libraries.
lock: $(STAMP)
	@$(PIP) install uv
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-annotate --no-header --quiet --output-file deployments/requirements/cuda.txt
	@sed -E -e '/^(nvidia-|cuda-|triton)/d' -e "s/^torch==([0-9.]+).*/torch==\1+cpu ; sys_platform == 'linux'\ntorch==\1 ; sys_platform != 'linux'/" deployments/requirements/cuda.txt > deployments/requirements/cpu.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
