# `make` lists the targets. PYTHON names the interpreter of the virtual environment (3.10 to 3.13).
PYTHON ?= python3
UV ?= uv
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
# Of gpu-check: where, which preset, minutes of this call. Of gpu-pack: a folder with the files of Beauty, to import.
DEVICE ?= cuda
PRESET ?= paper
MINUTES ?= 6
BEAUTY ?=

# Of reproduce-…: the preset of every run, and further options of `maskgr ablate`, e.g. ABLATE="--seeds 3 --jobs 2".
BUDGET ?= small
ABLATE ?=
RECIPES := table1 table2 table3 table4 table5 table6 figure2 figure3 figure4

.PHONY: help quickstart test test-page lint types docs format bench fuzz torture mutants reproduce-% reproduce-all report gpu-check gpu-pack lock audit clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "%-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(INSTALLED) ## Install, then download, train, evaluate and recommend on MovieLens 100K (CPU, under 12 minutes)
	$(BIN)/maskgr download ml-100k
	$(BIN)/maskgr train --dataset ml-100k --sids 2 --codebook 64 --max-items 20 --batch-size 64 --steps 2000
	$(BIN)/maskgr eval --beams 40
	$(BIN)/maskgr show
	$(BIN)/maskgr recommend --sample 3 --exclude-seen

test: $(INSTALLED) ## Install, then run all tests
	$(BIN)/python -m pytest

test-page: $(INSTALLED) ## Install what the tests of the page need (Debian's Chromium, axe-core from npm), and run them
	command -v chromium || command -v google-chrome || apt-get install --yes --no-install-recommends chromium
	npm install --prefix tests/page --no-package-lock --no-audit --no-fund
	$(BIN)/python -m pytest --numprocesses 1 tests/page

lint: $(INSTALLED) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## Check types
	$(BIN)/python -m mypy

docs: $(INSTALLED) ## Build the documentation into build/site, and check its links
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --config-file docs/site/mkdocs.yml

format: $(INSTALLED) ## Correct style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Measure training and decoding against the reference
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.decoding

fuzz: $(INSTALLED) ## Read 2,000 corrupted files with every reader, and try 2,000 bad option values (15 minutes)
	$(BIN)/python -m benchmarks.fuzz

torture: $(INSTALLED) ## Kill and interrupt every stage at random moments, fill its disk, start it twice (an hour)
	$(BIN)/python -m benchmarks.torture

mutants: $(INSTALLED) ## Change the code in 400 places, one at a time, and count the changes that no test notices (an hour)
	$(BIN)/python -m benchmarks.mutants

reproduce-%: $(INSTALLED) ## One of the paper's: table1 … table7, figure2 … figure4, or another recipe (BUDGET=paper|small|smoke)
	$(BIN)/maskgr ablate $* --budget $(BUDGET) $(ABLATE)

reproduce-table7: reproduce-table1 ; # one recipe for both

reproduce-all: $(addprefix reproduce-,$(RECIPES)) report ## All tables and figures of the paper, and their report

report: $(INSTALLED) ## Join the reports of all recipes into one page
	$(BIN)/maskgr report

gpu-check: ## Check, time and train on a GPU, in two calls of six minutes, into one JSON (DEVICE=cpu PRESET=smoke tries it without)
	$(PYTHON) -m benchmarks.gpu --device $(DEVICE) --preset $(PRESET) --total-minutes $(MINUTES)

gpu-pack: $(INSTALLED) ## Make the folder that gpu-check needs on a bare machine (BEAUTY=FOLDER imports Beauty from there)
	$(BIN)/python -m benchmarks.gpu.pack $(if $(BEAUTY),--beauty "$(BEAUTY)")

lock: ## Pin all dependencies anew in requirements.lock (needs uv)
	echo torch==2.13.0 | $(UV) pip compile --quiet --universal --python-version 3.10 --no-python-downloads --extra dev \
		--constraint - --no-header --no-annotate --no-emit-index-url pyproject.toml --output-file .lock.pins
	{ grep '^#' requirements.lock; grep -vE '^(nvidia|cuda|triton)' .lock.pins; } > .lock.new
	mv .lock.new requirements.lock
	rm .lock.pins

audit: ## Look for known vulnerabilities of the pinned dependencies (needs the network)
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet --upgrade pip-audit
	.audit/bin/python -m pip_audit --requirement requirements.lock --no-deps --disable-pip --strict --progress-spinner off

clean: ## Remove the virtual environment and what tools left behind; data/ stays
	rm -rf $(VENV) .audit build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis tests/page/node_modules
	find maskgr_cli pipelines tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info < (3, 14) or sys.exit("maskgr needs Python 3.10 to 3.13, not " + sys.version.split()[0] + ": make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
