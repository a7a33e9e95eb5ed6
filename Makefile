# `make demo` and `make test` do all set-up themselves; the second time they start at once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test test-slow lint bench clean

demo: $(VENV)/.installed
	$(BIN)/hat-ray run toy --run runs/demo

test: $(VENV)/.installed lint
	$(BIN)/pytest

test-slow: $(VENV)/.installed
	$(BIN)/pytest -m slow --timeout 1800

bench: $(VENV)/.installed
	$(BIN)/pytest -m benchmark -s --timeout 3600 tests/benchmarks/bench_*.py

lint: $(VENV)/.installed
	$(BIN)/ruff format --check hat_ray jobs tests
	$(BIN)/ruff check hat_ray jobs tests
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
