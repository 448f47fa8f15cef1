# The two commands: `make demo` and `make test`. Both set up everything they need in .venv.

PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-long coverage soak test-real test-lacking test-oldest test-all test-wheel lint docs settings deploy picture bench outcomes chaos chaos-short clean

help:
	@echo "make demo      crawl a local site and download its files, with a bundled server instead of Redis"
	@echo "make test      run the tests"
	@echo "make test-long  run the tests that take long by their nature: whole demos, chaos, much memory, many processes"
	@echo "make soak      draw many examples, other ones each time, where tests draw examples"
	@echo "make coverage  run the tests and tell which lines and branches they leave out"
	@echo "make test-real  run the tests against nginx, Apache, lighttpd and others, as far as they are installed"
	@echo "make test-lacking  run the tests of downloads without what macOS, SMB, NFS or FUSE lack, one by one and together"
	@echo "make test-oldest  run them with the oldest Python and libraries that are supported"
	@echo "make test-all  run them with the newest libraries on every Python there is"
	@echo "make test-wheel  build sdist and wheel, and run the demo from the wheel in an empty environment"
	@echo "make lint      ruff and mypy"
	@echo "make docs      write the documentation to docs/_build"
	@echo "make settings  bring the table of settings in README.md up to date"
	@echo "make deploy    write Grafana's dashboard and the alert rules anew"
	@echo "make bench     measure speed and memory side by side with aria2, curl and FilesPipeline"
	@echo "make picture   draw the picture of a run in README.md anew"
	@echo "make outcomes  run the same troubles against aria2 and curl, side by side"
	@echo "make chaos     hurt workers, server and Redis for some minutes, then see that nothing is lost or wrong"
	@echo "make chaos-short  the same for as long as 40 items take, about a minute"
	@echo "make clean     remove what the others made"

$(VENV)/installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --editable '.[embedded,test,dev]'
	@touch $@

demo: $(VENV)/installed
	$(BIN)/python examples/spider_project/demo.py

# Where an environment asks for no bytecode, each process of tests would rewrite and compile all of them anew.
unexport PYTHONDONTWRITEBYTECODE

# Crawls wait more than they work, so three tests run side by side; ARGS="-n0 tests/..." runs one after another.
PYTEST = pytest -n 3 --dist worksteal --ignore=tests/real

test: $(VENV)/installed
	$(BIN)/python -m $(UNDER) $(PYTEST) -m "not long" $(ARGS)

test-long: $(VENV)/installed
	$(BIN)/python -m $(UNDER) $(PYTEST) -m long $(ARGS)

soak: $(VENV)/installed
	CHUNKDL_EXAMPLES=2000 $(BIN)/python -m $(PYTEST) -m hypothesis $(ARGS)

coverage: $(VENV)/installed
	$(BIN)/python -m coverage erase
	$(MAKE) test UNDER="coverage run -m"
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report

# pyenv shows its Pythons under their names only when it is told to.
PYTHONS = PYENV_VERSION=$$(pyenv versions --bare 2>/dev/null | paste -sd: -)

test-real: $(VENV)/installed
	$(BIN)/python -m pytest -n 3 --dist worksteal -rs tests/real $(ARGS)

# What tests/helpers/lacking.py can take away. "all" is what none of them has together.
LACKS = fdatasync posix_fallocate getxattr setxattr flock folder-fsync all

# What users are promised: behaviour of downloads. tests/download/disk is about the calls themselves.
LACKING = tests/download/test_*.py tests/download/http tests/download/plan

test-lacking: $(VENV)/installed
	for lack in $(LACKS); do \
	    echo "without $$lack"; \
	    CHUNKDL_TEST_LACKS=$$lack $(BIN)/python -m $(PYTEST) -m "not long" $(LACKING) $(ARGS) || exit 1; \
	done

test-oldest: $(VENV)/installed
	$(PYTHONS) $(BIN)/python -m nox -s oldest_supported -- $(ARGS)

test-all: $(VENV)/installed
	$(PYTHONS) $(BIN)/python -m nox -s newest -- $(ARGS)

test-wheel: $(VENV)/installed
	rm -rf dist $(VENV)-wheel
	$(BIN)/python -m build -q
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install -qq "$$(ls dist/*.whl)[embedded]"
	$(VENV)-wheel/bin/python examples/spider_project/demo.py

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
	$(BIN)/python docs/answers_table.py
	$(BIN)/python docs/state_tables.py
	$(BIN)/python docs/metrics_page.py

deploy: $(VENV)/installed
	$(BIN)/python deploy/generate.py

$(VENV)/bench-installed: $(VENV)/installed
	$(BIN)/python -m pip install -qq --editable '.[bench]'
	@touch $@

bench: $(VENV)/bench-installed
	cd benchmarks && ../$(BIN)/python -m bench --keep $(ARGS)

picture: $(VENV)/docs-installed
	$(BIN)/python docs/picture.py

outcomes: $(VENV)/installed
	$(BIN)/python benchmarks/outcomes.py

chaos: $(VENV)/installed
	$(BIN)/python tests/chaos/run.py $(ARGS)

# A short one of a fixed seed: as long as so many items take.
chaos-short:
	$(MAKE) chaos ARGS="--items 40 --seed 10053"

clean:
	rm -rf $(VENV) $(VENV)-wheel .nox .coverage* .cache docs/_build build dist *.egg-info examples/spider_project/.cache examples/spider_project/.scrapy \
	    examples/spider_project/downloads examples/spider_project/items.jsonl
