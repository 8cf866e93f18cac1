# Integral human pose: a course and a reproduction. `make` alone prints the targets.
SHELL   := /bin/bash
PYTHON  ?= python3
PROFILE ?= laptop
TORCH   ?= registry
BIN     := .venv/bin
STAMP   := .venv/installed-$(TORCH).lock
export UV_PYTHON_DOWNLOADS := never
# Threads that wait asleep, not spinning, leave shared machines usable.
export OMP_WAIT_POLICY ?= PASSIVE
export JUPYTER_PLATFORM_DIRS := 1

.DEFAULT_GOAL := help
.PHONY: help env reproduce capture test unit browser notebooks exercises lint lab book lock clean clean-runs

help:  ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "  variables: PROFILE=smoke|laptop|gpu|full (now $(PROFILE)), TORCH=registry|cpu (now $(TORCH)), PYTHON=$(PYTHON)"

env:  ## build .venv from requirements.lock (again only when the lock changes)
	@if ! cmp -s requirements.lock $(STAMP); then $(MAKE) --no-print-directory build-env; fi

# The stamp is a copy of the lock, written last: an interrupted build is simply taken up again.
.PHONY: build-env
build-env:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make env: $(PYTHON) is older than Python 3.11; name a newer one, as in: make env PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "make env: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@rm -f .venv/installed-*.lock
ifeq ($(TORCH),cpu)
	grep -v -E '^(nvidia-|cuda-|triton)' requirements.lock > .venv/cpu.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --torch-backend=cpu -r .venv/cpu.lock
else
	VIRTUAL_ENV=.venv $(BIN)/uv pip install -r requirements.lock
endif
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --no-deps -e .
	@cp requirements.lock $(STAMP)

reproduce: env  ## capture, train, evaluate, run the notebooks, print the table (PROFILE=laptop: about 30 min on 2 cores)
	@$(BIN)/python -m ipr_lib reproduce --profile $(PROFILE)

capture: env  ## only write the built-in capture of PROFILE
	@$(BIN)/python -m ipr_lib capture --profile $(PROFILE)

test: lint unit notebooks-smoke notebooks-narrow browser  ## lint, unit tests, static notebook checks, every notebook and its solutions with the smoke profile, the views in a browser

unit: env  ## unit tests and static notebook checks
	@$(BIN)/python -m ipr_lib selftest unit

browser: env  ## the interactive views in a real JupyterLab and Chromium; screenshots land in results/browser
	@$(BIN)/python -m ipr_lib selftest browser

.PHONY: notebooks-smoke
notebooks-smoke: env
	@$(BIN)/python -m ipr_lib selftest notebooks

# Notebooks whose checks rest on trainings, once more as an old processor computes and with another seed: other roundings
# lead a training elsewhere, and no check may depend on that. `python -m tests.sweep` tries more seeds and processors.
.PHONY: notebooks-narrow
notebooks-narrow: env
	@$(BIN)/python -m ipr_lib selftest narrow

notebooks: env  ## run the notebooks on the run of PROFILE that is there
	@$(BIN)/python -m ipr_lib reproduce --profile $(PROFILE) --as-is

exercises: env  ## write each notebook's exercises from notebooks/solutions
	@$(BIN)/python -m ipr_lib exercises

lint: env  ## mistakes, format and spelling of code, notebooks and pages
	@$(BIN)/python -m ipr_lib selftest lint

lab: env  ## JupyterLab, opened at the first notebook
	@$(BIN)/python -m ipr_lib lab

book: env  ## the executed notebooks of PROFILE as a static site, results/site-PROFILE
	@$(BIN)/python book/build.py --profile $(PROFILE)

lock: env  ## write requirements.lock anew from pyproject.toml
	VIRTUAL_ENV=.venv $(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --upgrade \
	  --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.lock

clean:  ## remove caches
	rm -rf .pytest_cache .ruff_cache .hypothesis
	find ipr_lib tests notebooks benchmarks book -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

RUNS = find $(or $(IPR_RESULTS),results) -mindepth 1 -maxdepth 1 ! -name reference; \
  find $(or $(IPR_DATA),data) -mindepth 1 -maxdepth 1 -name 'capture-*'

clean-runs:  ## ask, then remove runs with their trained networks, and captures (keeps results/reference and prepared sets)
	@($(RUNS))
	@read -r -p "Delete all of these? [y/N] " answer; test "$$answer" = y || { echo "kept"; exit 1; }
	@($(RUNS)) | tr '\n' '\0' | xargs -0 rm -rf
