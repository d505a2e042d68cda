# Each target first installs what it needs: a fresh machine only needs Python 3.11+ and make.

PYTHON ?= python3
VENV := .venv/bin
# DVC runs each stage as `python -m stages NAME`: use this environment's python, whichever one is active.
export PATH := $(CURDIR)/$(VENV):$(PATH)
# A relative path would be resolved in the temporary folder of a queued experiment.
ifneq ($(MNIST_MIRROR),)
export MNIST_MIRROR := $(shell cd "$(MNIST_MIRROR)" 2>/dev/null && pwd || printf '%s' "$(MNIST_MIRROR)")
endif
# The packages go into .venv, and Python looks for them there.
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PYTHONPATH PYTHONHOME
# `make CPU=1 …` installs everything from one lock file, with PyTorch for CPUs instead of its 3 GB for CUDA. uv, which
# pip installs first, knows the address of PyTorch's own index.
LOCK := $(if $(CPU),requirements-cpu)
PIP := $(VENV)/python -m pip install --quiet --disable-pip-version-check --require-hashes
define INSTALL_FOR_CPU
sed -n '/^uv==/,/# via/p' $< > .venv/uv.txt && $(PIP) -r .venv/uv.txt
$(VENV)/uv pip install --quiet --python $(VENV)/python --torch-backend cpu --require-hashes -r $<
endef
define INSTALL
@echo "installing $< into .venv (the first time takes minutes$(if $(CPU),,: PyTorch with CUDA is a 3 GB download))"
$(if $(CPU),$(INSTALL_FOR_CPU),$(PIP) -r $<)
@$(VENV)/python -m stages.launch.packages $<
@touch $@
endef

.PHONY: repro test verify bench gpu fleet lint back docs release lock lock-cpu

repro: .venv/runtime ## run the stages that are out of date, and compare the metrics with those of the last commit
	$(VENV)/dvc repro
	$(VENV)/dvc metrics diff --all --targets metrics/evaluate.json

test: .venv/dev ## run the tests, except those marked as slow (pytest -m slow)
	$(VENV)/python -m pytest -n 2 --dist worksteal -m "not slow and not recorded"

verify: .venv/runtime ## re-run the last commit from scratch and check that it reproduces the committed results
	$(VENV)/python -m tools.verify

bench: .venv/runtime ## measure the speed of training; CSV=FILE also writes the table there
	$(VENV)/dvc repro --quiet
	$(VENV)/python -m tools.bench $(CSV)

# Without a .venv, a python3 that already has PyTorch and the packages below is used, because some GPU machines can't
# install anything. data/mnist must then be provided.
gpu: export PYTHONPATH := $(PYTHONPATH)
gpu: ## test training on a GPU and measure it; CSV=FILE also writes the table there
	@python=$(PYTHON); \
	if [ -e .venv/dev ] || ! $$python -c 'import pandas, pydantic, pytest, safetensors, scipy, tabulate, torch, yaml' 2> /dev/null; then \
		$(MAKE) --no-print-directory .venv/dev && $(VENV)/dvc repro --quiet download && python=$(VENV)/python || exit; \
	fi; \
	set -x; $$python -m pytest -o filterwarnings=default tests/test_gpu.py && $$python -m tools.bench gpu $(CSV)

fleet: .venv/fleet ## install the extra packages of python -m tools.fleet: Dask, and SSH for DVC

lint: .venv/dev ## check style, formatting and types
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy

back: .venv/runtime ## return to the last commit after a killed run; BRANCH=NAME names the branch
	@$(VENV)/python -m tools.back $(BRANCH)

docs: .venv/runtime ## write the generated parts of README.md and docs/
	$(VENV)/python -m tools.dev.docs

release: .venv/runtime ## renew release/ with the model, the predictions and the page of the last run
	$(VENV)/python -m tools.dev.release

lock: .venv/dev ## pin the dependencies in pyproject.toml again
	$(VENV)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 pyproject.toml \
		--output-file requirements.lock
	$(VENV)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 pyproject.toml --group fleet \
		--constraint requirements.lock --output-file requirements-fleet.lock
	$(VENV)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 pyproject.toml --group dev \
		--constraint requirements.lock --constraint requirements-fleet.lock --output-file requirements-dev.lock

lock-cpu: .venv/dev ## write requirements-cpu.lock for `make CPU=1 …`; this needs PyTorch's own package index
	$(VENV)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 pyproject.toml --group dev \
		--torch-backend cpu --constraint requirements-dev.lock --output-file requirements-cpu.lock

requirements-cpu.lock:
	@echo "error: CPU=1 needs requirements-cpu.lock, which is not there yet: make without CPU=1, or run make lock-cpu" >&2
	@exit 2

.venv/runtime: $(or $(LOCK),requirements).lock | .venv/bin/python
	$(INSTALL)

.venv/fleet: $(or $(LOCK),requirements-fleet).lock | .venv/bin/python
	$(INSTALL)
	@touch .venv/runtime

.venv/dev: $(or $(LOCK),requirements-dev).lock | .venv/bin/python
	$(INSTALL)
	@touch .venv/runtime .venv/fleet

.venv/bin/python:
	@$(PYTHON) tools/dev/supported.py
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
