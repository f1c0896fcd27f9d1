# PaddleStems: everything that a new machine needs is installed into .venv by the first target that needs it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/python
OLDEST ?= .venv-3.0.0
SONG   ?=
DATASET ?=
# a process a core (four at most: each takes a gigabyte), each a file of tests at a time
PYTEST := -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install demo demo-demucs demo-bsrnn demo-rmvpe demo-apollo emulator test test-matrix test-originals lint bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.base  ## create .venv with what running needs

demo: $(VENV)/.base  ## synthetic songs -> train -> evaluate -> separate on this CPU (SONG=path separates that file too)
	$(RUN) run_scripts/run_demo.py $(if $(SONG),--song "$(SONG)")

demo-demucs: $(VENV)/.base  ## train small Demucs networks here and score them before and after (DATASET=folder: on these songs)
	$(RUN) run_scripts/run_demucs_demo.py $(if $(DATASET),--dataset "$(DATASET)")

demo-bsrnn: $(VENV)/.base  ## train a small BandSplitRNN here and score it before and after (DATASET=folder: on these songs)
	$(RUN) run_scripts/run_bsrnn_demo.py $(if $(DATASET),--dataset "$(DATASET)")

demo-rmvpe: $(VENV)/.base  ## train a small pitch network on sung songs here and score it before and after (DATASET=folder: on these)
	$(RUN) run_scripts/run_rmvpe_demo.py $(if $(DATASET),--dataset "$(DATASET)")

demo-apollo: $(VENV)/.base  ## train a small Apollo on MP3 files here, score it before and after, draw what it restores (DATASET=folder: on these songs)
	$(RUN) run_scripts/run_apollo_demo.py $(if $(DATASET),--dataset "$(DATASET)")

emulator: $(VENV)/.base  ## an emulated SDAA card for this machine; `python -m sdaa_emulator -- COMMAND` runs on it
	$(RUN) -m sdaa_emulator

test: $(VENV)/.dev  ## the whole test suite
	$(RUN) $(PYTEST)

test-matrix: $(VENV)/.dev $(OLDEST)/.dev  ## the suite on the newest and on the oldest supported PaddlePaddle (3.0.0), emulator included
	$(RUN) $(PYTEST)
	$(OLDEST)/bin/python $(PYTEST)

test-originals: $(VENV)/.dev $(VENV)/.bench  ## what needs the originals beside ours: installs PyTorch and Demucs into .venv
	$(RUN) -m pytest tests/inference/test_originals.py tests/pretrained tests/training/test_apollo_twin.py

lint: $(VENV)/.dev  ## style and formatting, without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.bench  ## one table of ratios, measured side by side in this run (installs PyTorch as the rival)
	$(RUN) -m benchmarks

clean:  ## remove what the commands of this file wrote, but no data set and no trained model
	rm -rf demo .pytest_cache .ruff_cache

$(RUN):
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "error: Python 3.10, 3.11 or 3.12 is needed; say which with make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: requirements.txt requirements-base.txt | $(RUN)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.base
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(OLDEST)/.dev: requirements-dev.txt requirements-base.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check paddlepaddle==3.0.0 -r requirements-dev.txt
	touch $@

$(VENV)/.bench: requirements-bench.txt $(VENV)/.base
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	touch $@
