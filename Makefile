# Two commands on a fresh machine: `make demo` and `make test`. Both make their own .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check bench accuracy docs pictures wheel versions clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

# The stamps say which extras are in; a changed pyproject.toml installs anew.
$(VENV)/.demo: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "loopwatch needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(VENV)/.demo ## Run a FastAPI app that makes every mistake, under load (ARGS="--seconds 20 --loop uvloop")
	@$(BIN)/loopwatch demo $(ARGS)

test: $(VENV)/.test ## Run the tests
	$(BIN)/python -m pytest $(ARGS)

test-all: $(VENV)/.test ## Run the tests that take minutes, too
	$(BIN)/python -m pytest -m "" $(ARGS)

check: $(VENV)/.test ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy -p scripts.dashboards -m scripts.preview_dashboards

bench: $(VENV)/.test ## Measure cost and accuracy (about six minutes)
	$(BIN)/python -m benchmarks $(ARGS)

accuracy: $(VENV)/.test ## Block loops in known ways and judge what is told (about 20 minutes)
	$(BIN)/python -m tests.accuracy $(ARGS)

docs: $(VENV)/.test ## Write anew what derives from the tables: reference pages, rules, dashboards
	$(BIN)/python scripts/reference.py
	$(BIN)/python scripts/assets.py
	$(BIN)/python -m scripts.dashboards

pictures: $(VENV)/.test ## Make the pictures of README and docs anew from the running demo (about five minutes)
	$(BIN)/python -m scripts.record_page
	$(BIN)/python -m scripts.record_top
	$(BIN)/python -m scripts.preview_dashboards

wheel: $(VENV)/.test ## Build the wheel and try it in an environment of its own
	scripts/try-wheel $(BIN)/python

versions: ## Run the tests on every Python pyenv has, and on Debian testing's
	scripts/test-on-versions

clean: ## Remove what make made
	rm -rf $(VENV) .venv-* build dist .mypy_cache .pytest_cache .ruff_cache
