# The two commands: `make demo` and `make test`. Both set up everything they need in .venv.

PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs settings outcomes chaos clean

help:
	@echo "make demo      crawl a local site and download its files, with a bundled server instead of Redis"
	@echo "make test      run the tests"
	@echo "make lint      ruff and mypy"
	@echo "make docs      write the documentation to docs/_build"
	@echo "make settings  bring the table of settings in README.md up to date"
	@echo "make outcomes  run the same troubles against aria2 and curl, side by side"
	@echo "make chaos     hurt workers, server and Redis for some minutes, then see that nothing is lost or wrong"
	@echo "make clean     remove what the others made"

$(VENV)/installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --editable '.[embedded,test,dev]'
	@touch $@

demo: $(VENV)/installed
	$(BIN)/python examples/spider_project/demo.py

test: $(VENV)/installed
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/docs-installed: $(VENV)/installed
	$(BIN)/python -m pip install -qq --editable '.[docs]'
	@touch $@

docs: $(VENV)/docs-installed
	$(BIN)/python -m sphinx -W -q docs docs/_build

settings: $(VENV)/installed
	$(BIN)/python docs/settings_table.py

outcomes: $(VENV)/installed
	$(BIN)/python benchmarks/outcomes.py

chaos: $(VENV)/installed
	$(BIN)/python tests/chaos/run.py $(ARGS)

clean:
	rm -rf $(VENV) .cache docs/_build build dist *.egg-info examples/spider_project/.cache examples/spider_project/.scrapy \
	    examples/spider_project/downloads examples/spider_project/items.jsonl
