# `make demo` and `make test` set up .venv themselves; nothing else is needed but Python 3.11+, make and a package index.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all check format types layers docs dist-check clean

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,hf,export,dev,docs]'
	@touch .venv/.demo $@

demo: .venv/.demo
	$(BIN)/selfreg demo

# The page is tested in a real browser, which needs Chromium and its driver: both are installed where that is allowed;
# otherwise those tests are skipped, and say so.
.venv/.browser: .venv/.dev
	@found() { for each; do command -v "$$each" >/dev/null && return; done; return 1; }; \
	{ found chromium chromium-browser google-chrome && found chromedriver chromium.chromedriver; } || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get -qq update >/dev/null \
	    && apt-get -qq install -y --no-install-recommends chromium chromium-driver >/dev/null 2>&1; } || \
	  echo 'Chromium and its driver cannot be installed here: the tests of the page are skipped'
	@touch $@

test: .venv/.browser
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow'

# With the tests of many seconds (marked `slow`), as in CI.
test-all: .venv/.browser
	$(BIN)/python -m pytest -n 2 --dist worksteal

# One target each, for `make --jobs`.
check: format types layers

format: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

layers: .venv/.dev
	$(BIN)/lint-imports

docs: .venv/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Installs torch twice, into environments of its own: minutes and gigabytes.
dist-check: .venv/.dev
	$(BIN)/python tests/distribution/check_dist.py
	$(BIN)/python tests/distribution/check_dist.py --lowest

clean:
	rm -rf .venv runs demo site dist
