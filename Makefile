# The two commands of the README are `make train` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: train test check perf kernels gpu-check docker-check clean
train: $(VENV)/train.stamp
	$(BIN)/gputape train

test: check
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Timings on one core, training steps on two as well, beside what of PyTorch, JAX and tinygrad is installed. Tables and
# charts in perf/results/. The two variables slow NumPy's BLAS.
PERF := env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m pytest --benchmark-enable
perf: $(VENV)/dev.stamp
	$(PERF) perf
	$(PERF) perf/test_steps.py --two-cores -k "alike or ratios"

# Every kernel to machine code for every supported architecture, without a GPU: registers, spills, access widths, …
kernels: $(VENV)/gpu.stamp
	$(BIN)/python -m gputape.kernels.gate --table build/kernels.md --summary perf/results/kernels.md

# Tests and timings on an NVIDIA GPU, one report in perf/results/. With CuPy and Triton of your own choice:
# make gpu-check GPU_PYTHON=python3
ifeq ($(origin GPU_PYTHON),undefined)
GPU_PYTHON := $(abspath $(BIN)/python)
gpu-check: $(VENV)/$(if $(wildcard /dev/nvidiactl),gpu,test).stamp $(VENV)/test.stamp
endif
gpu-check:
	cd perf && PYTHONPATH=.. $(GPU_PYTHON) -m gpu

# The scripts of docker/ in order, in a root made by debootstrap; needs root rights and a network.
docker-check:
	$(PYTHON) docker/check.py

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "gputape needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
		{ echo "Python's venv module is incomplete: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/%.stamp: pyproject.toml | $(VENV)/python.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@
