# Each target stands alone on a machine that has Python 3.10+ and make: what it needs is installed first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help docs notebooks pictures setup fmt check test test-fast golden schema architecture test-slurm serve-memory fuzz demo clean
.DEFAULT_GOAL := help

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is renewed when what is to be installed changes, so that a second call costs nothing.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "Python 3.10 or newer is needed, this is " + sys.version.split()[0] + "; name another one with make PYTHON=/path/to/python3")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

setup: $(VENV)/installed  ## Create .venv and install the package with its development tools

fmt: setup  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup  ## Lint, types, and the direction of dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup  ## Run every test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

test-fast: setup  ## Run the tests that take moments: two minutes on two cores
	$(BIN)/python -m pytest -m "not slow and not slurm" --numprocesses auto --maxprocesses 4

golden: setup  ## Compare twenty training steps of every task with tests/golden, bit by bit on the same machine
	$(BIN)/python tests/golden/golden_losses.py

schema: setup  ## Write conf/schema.json, by which editors complete and explain the keys of the configuration
	$(BIN)/python -m kgt_lightning.config.json_schema > conf/schema.new
	mv conf/schema.new conf/schema.json

architecture: setup  ## Write the drawing of docs/architecture.md from the imports
	$(BIN)/python docs/draw_architecture.py

docs: setup  ## Make the site in docs/_build/html: runs the gallery, every warning is an error, links are checked
	$(BIN)/sphinx-build -W --keep-going -q -c docs -b html . docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html
	@echo "The site: docs/_build/html/index.html"

notebooks: setup  ## Run the gallery as notebooks, with their outputs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[notebooks]"
	$(BIN)/python docs/make_notebooks.py

pictures: setup  ## Make the pictures of README and site anew
	$(BIN)/python docs/draw_pictures.py
	$(BIN)/python docs/serve_pictures.py

test-slurm: setup  ## Run sweeps on a real SLURM that is started for the tests: needs root, slurm-wlm and munge
	@test "$$(id -u)" = 0 || { echo "error: starting SLURM needs root: run make test-slurm as root, on a machine that can be thrown away" >&2; exit 2; }
	@for each in sbatch slurmctld slurmd munged; do PATH="$$PATH:/usr/sbin:/sbin" command -v $$each > /dev/null || \
		{ echo "error: there is no $$each: apt-get install --no-install-recommends slurm-wlm munge" >&2; exit 2; }; done
	$(BIN)/python -m pytest -m slurm tests/slurm

serve-memory: setup  ## Restore 20 megapixels in kgt serve: under 2 GB at its peak, from upload to download (a quarter of an hour on two cores)
	SERVE_MEGAPIXELS=20 $(BIN)/python -m pytest tests/test_serve.py -k memory -s --timeout 0

FUZZ_MINUTES ?= 30
fuzz: setup  ## Look for input that breaks a command for FUZZ_MINUTES=30: configurations, arguments, images, checkpoints
	end=$$(($$(date +%s) + 60 * $(FUZZ_MINUTES))); while [ $$(date +%s) -lt $$end ]; do \
		FUZZ_MINUTES=$(FUZZ_MINUTES) $(BIN)/python -m pytest tests/fuzz --quiet --timeout 0 --hypothesis-seed=$$(date +%s) || exit 1; done

fuzz-commands: setup  ## Run 200 fresh command lines of all commands to their end: how many ended in which way
	$(BIN)/python tests/fuzz/command_lines.py 200

foreign-images: setup  ## Pass every file of IMAGES=<folder> through restore with a model that changes nothing
	$(BIN)/python tests/images/through_restore.py $(IMAGES)

GPU := outputs/gpu
gpu: setup  ## Test, tune and measure on the GPU that is here, in under ten minutes; SMALL=1 tries it without one
	$(BIN)/python -m kgt_lightning.benchmarks.gpu_day $(GPU) $(if $(SMALL),small)

RUN := outputs/denoise/demo
demo: setup  ## Train a small model on real photographs, test it, restore with it: about 5 minutes on 2 cores
	$(BIN)/python -m kgt_lightning.train experiment=demo run=demo resume=true
	$(BIN)/python -m kgt_lightning.evaluate checkpoint=$(RUN)/checkpoints/best.ckpt save_images=true hydra.run.dir=$(RUN)/evaluate
	$(BIN)/python -m kgt_lightning.restore checkpoint=$(RUN)/checkpoints/best.ckpt input=$(RUN)/evaluate/degraded output=$(RUN)/restored overwrite=true
	@echo
	@echo "The pictures, noisy | restored | clean:  $(RUN)/evaluate/panels"
	@echo "The noisy files restored as files:       $(RUN)/restored"
	@echo "Restore your own photographs:            $(BIN)/python -m kgt_lightning.restore checkpoint=$(RUN)/checkpoints/best.ckpt input=<file or folder> output=<folder>"

clean:  ## Remove the environment, caches and outputs
	rm -rf $(VENV) outputs multirun .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
