# Everything runs in .venv, which is made on first use and again when the dependencies change.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench gpu docs clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mmagent needs Python 3.11 or later; choose one with: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing mmagent and its dependencies into .venv (a few minutes the first time)"
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/.ready ## install, then ask the shop's assistant about a receipt
	$(BIN)/mmagent run "Can I still return the lamp?" -a examples/shop/receipt.png --tools examples/shop/tools.py --knowledge examples/shop/policies

test: .venv/.ready ## run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup

check: .venv/.ready ## lint, format, strict types of the installed package, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build && $(PIP) install --no-deps --no-build-isolation --target build/installed .
	cd build/installed && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p mmagent
	$(BIN)/lint-imports --no-logo

format: .venv/.ready ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.ready ## run the benchmarks; their results are in benchmarks/RESULTS.md
	for file in $$(grep -l __main__ benchmarks/*.py); do echo "== $$file"; $(BIN)/python -m benchmarks.$$(basename $$file .py) || exit 1; done

# On a machine that may have nothing but torch, transformers and pytest: no .venv, nothing is installed.
gpu: ## check and measure our CUDA kernels on this machine's NVIDIA GPU
	@PYTHON=$$(for python in $(BIN)/python $(PYTHON) python3 python; do $$python -c 'import torch, transformers, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null && echo $$python && break; done); \
	test -n "$$PYTHON" || { echo "no Python here has torch, transformers and an NVIDIA GPU; name one with: make gpu PYTHON=..."; exit 1; }; \
	export PYTHONPATH=. HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1; code=0; \
	echo "== $$PYTHON: tests/gpu"; $$PYTHON -m pytest -q -c /dev/null --rootdir . --noconftest --import-mode importlib -p no:cacheprovider tests/gpu || code=1; \
	echo "== $$PYTHON: benchmarks/gpu.py"; $$PYTHON -m benchmarks.gpu || code=1; \
	exit $$code

docs: .venv/.ready ## run every code block of the README and the docs
	$(BIN)/python -m pytest -q tests/test_docs.py

clean: ## remove what was built, but not .venv
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find mmagent tools prompts tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +
