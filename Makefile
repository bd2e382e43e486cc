# make demo    installs ftcli into .venv, fine-tunes the example that comes with it, and uses it
# make test    installs what the tests need into .venv and runs them
# make bench   measures ftcli beside a plain loop and transformers' Trainer, which takes a while
# make check   lint, types and tests: what CI runs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo bench test lint types check clean

install: $(VENV)/.dev

# .venv/.dev, .venv/.demo: ftcli with that extra, in the one environment.
$(VENV)/.%: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[$*]'
	touch $@

demo: $(VENV)/.demo
	$(BIN)/ftcli train --overwrite
	$(BIN)/ftcli eval runs/quickstart
	$(BIN)/ftcli predict runs/quickstart ftcli/quickstart/unseen.tsv --top-k 1 -q
	@echo
	@echo 'The model is runs/quickstart/model, its card runs/quickstart/model/README.md. Next, with a table of your own:'
	@echo '  . $(VENV)/bin/activate'
	@echo '  ftcli train configs/text-classification.yaml data.files.train=FILE.csv data.columns.text=TEXT data.columns.label=LABEL output_dir=runs/mine'
	@echo '  ftcli predict runs/mine FILE.csv -o labelled.csv'

bench: $(VENV)/.demo
	$(BIN)/ftcli bench

test: install
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
