# Every command of the project; `make` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH_VERSION := $(shell sed -n 's/^torch==//p' constraints.txt)

ifneq ($(filter-out cuda,$(TORCH)),)
$(error TORCH=$(TORCH) is unknown; allowed: TORCH=cuda, or no TORCH for the build that pip finds first)
endif

.DEFAULT_GOAL := help
.PHONY: help install run serve test test-slow test-faults lint types imports check bench lock clean

help:  ## List the commands
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(STAMP) $(if $(TORCH),$(VENV)/.torch-$(TORCH))  ## Make the environment in .venv, once; TORCH=cuda: with the CUDA build of torch

run: $(STAMP)  ## Process a simulated scan, or DATA=FOLDER, through a real deployment run; results go to run/
	$(BIN)/python -m deployments.launch run $(if $(DATA),--data "$(DATA)")

serve: $(STAMP)  ## Leave Prefect server, UI and worker running until Ctrl-C; WATCH=FOLDER follows a beamtime folder
	$(BIN)/python -m deployments.launch serve $(if $(WATCH),--watch "$(WATCH)")

# Two processes, because many tests wait for servers; a file stays in one, with what its tests share.
test: $(STAMP)  ## Run all tests that are not slow
	$(BIN)/pytest -m "not slow and not faults" -n 2 --dist loadfile

test-slow: $(STAMP)  ## Run the tests that take minutes
	$(BIN)/pytest -m "slow and not faults"

test-faults: $(STAMP)  ## Kill, damage and fill up on purpose; FAULTS=SEED:KILLS chooses other kills
	$(BIN)/pytest -m faults -n 2 --dist loadscope tests/faults tests/orchestration

lint: $(STAMP)  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## Check types
	$(BIN)/mypy

imports: $(STAMP)  ## Check that imports point down only
	$(BIN)/lint-imports

check: lint types imports test  ## Everything that has to pass before a commit

bench: $(STAMP)  ## Measure: frames per second of ingest, cost of orchestration
	$(BIN)/python benchmarks/ingest_rate.py
	$(BIN)/python benchmarks/orchestration_cost.py

lock: $(STAMP)  ## Pin every dependency as the environment has it, in constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:  ## Remove results, caches and the environment; the server's history in .home stays
	rm -rf run $(VENV) build dist *.egg-info .benchmarks prefect.toml
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and alone: what depends on it then keeps this build, whichever index it came from.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo "error: $(PYTHON) is not installed; install it, or name another: make PYTHON=python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==$(TORCH_VERSION)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# --isolated passes over a configured index or folder of wheels, which may hold the CPU build of the same version.
$(VENV)/.torch-cuda: $(STAMP)
	$(BIN)/python -m pip install --quiet --isolated --force-reinstall -c constraints.txt \
		$(if $(PIP_CERT),--cert "$(PIP_CERT)") $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") torch==$(TORCH_VERSION)
	@$(BIN)/python -c "import torch; raise SystemExit(torch.version.cuda is None and \
		f'error: torch {torch.__version__} is built without CUDA; name an index with the CUDA build: TORCH_INDEX=URL')"
	@touch $@
