# The first command that needs .venv sets it up. PYTHON=python3.12 make test uses another Python.
PYTHON ?= python3
BIN := .venv/bin
# One more than there are cores: tests of pages, servers and databases wait for other processes.
WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) + 1 )))

# Tests start Python many times. Without bytecode files, each start would compile the library again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo gateway test test-thorough check bench docs schema errors fuzz clean

demo: .venv/installed
	$(BIN)/python examples/demo.py

gateway: .venv/gateway
	$(BIN)/python -m examples.gateway --demo

test: .venv/dev check
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-thorough: export HYPOTHESIS_PROFILE = thorough
test-thorough: test

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/bench
	$(BIN)/python benchmarks/run.py

# The pages of docs/ and a reference made of the docstrings, as a site in build/site. A warning is an error.
docs: .venv/docs
	$(BIN)/sphinx-build -W -q -c docs/site . build/site
	@echo 'The site is in build/site; open build/site/index.html'

schema: .venv/installed
	$(BIN)/brivionix-billing schema pricing > docs/schema/pricing.schema.json
	$(BIN)/brivionix-billing schema invoice > docs/schema/invoice.schema.json
	$(BIN)/brivionix-billing schema receipt > docs/schema/receipt.schema.json
	$(BIN)/brivionix-billing schema price-list > docs/schema/price-list.schema.json

# ARGS=--update first stores the present messages of all examples.
errors: .venv/dev
	$(BIN)/python tests/support/make_errors.py $(ARGS)

# FUZZ_SECONDS is the time of each reader, FUZZ names the readers. Linux only.
FUZZ_SECONDS ?= 20
fuzz: export FUZZ_SECONDS := $(FUZZ_SECONDS)
fuzz: .venv/fuzz
	$(BIN)/python -m fuzz.run $(FUZZ)

clean:
	rm -rf .venv docs/site/api .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist fuzz/corpus fuzz/crashes

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is required; use for example: make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[ledger,sign,zones]'
	@touch $@

.venv/gateway: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[gateway]'
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ .venv/installed .venv/gateway .venv/docs

.venv/docs: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

.venv/fuzz: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	@touch $@

.venv/bench: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@
