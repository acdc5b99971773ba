# Two commands do all: `make demo` (set-up and the main job on the embedded synthetic corpus) and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HF_TESTS := hf_tests/.fetched
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench soak clean

help: ## Show this list.
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv from constraints.txt (once).

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

$(HF_TESTS): $(STAMP) tests/common/fetch_common_tests.py
	$(BIN)/python tests/common/fetch_common_tests.py

demo: setup ## Pre-train, fine-tune, compare and plot ST-MEM on synthetic ECGs (about eight minutes on two cores).
	$(BIN)/python examples/demo.py --output_dir demo_output

test: lint $(HF_TESTS) ## Lint, types, import contracts, and all tests.
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder -q

lint: setup ## Ruff, mypy (strict on src) and the import contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Format and fix what can be fixed.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## Speed ratios, forms timed side by side in one run, against their goals.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/run.py

soak: setup ## Damaged files by the thousand, every checkpoint, storms (kill -9), builds, memory; minutes to an hour.
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak/readers.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak/embeddings.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak/embeddings.py --size released --records 12
	ECG_SOAK=1 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/training/test_going_on.py tests/cases
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak/storm.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak/builds.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak/plans.py

clean: ## Remove outputs of demo and bench, and caches (keeps .venv).
	rm -rf demo_output bench_output hf_tests .pytest_cache .mypy_cache .ruff_cache .hypothesis
