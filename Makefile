# `make demo` and `make test` do all set-up themselves; the second time they start at once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test test-default test-avx2 test-slow test-cluster test-chaos test-pages test-browser test-docs test-minimal \
	test-lowest test-comet lint bench gpu-check clean

# What computes with a model runs other code on a processor without AVX-512: here PyTorch, oneDNN and CTranslate2 take
# that one. ONNX Runtime cannot be told; its case is proved by arithmetic in tests/runtime.
AVX2_ONLY := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 CT2_FORCE_CPU_ISA=AVX2
# A file's tests stay together, because they share what is expensive to make.
EVERY_CORE := -n logical --maxprocesses 8 --dist loadfile
TWO_AT_A_TIME := --timeout 1800 -n 2 --dist loadfile
CORE_TESTS := $(addprefix tests/,core space corpus model train runtime latency predictor search evaluate studies contracts)
AVX2_TESTS := tests/model tests/runtime tests/contracts tests/evaluate tests/search

demo: $(VENV)/.installed
	$(BIN)/hat-ray run toy --run runs/demo

test: lint test-default

test-default: $(VENV)/.installed
	$(BIN)/pytest $(EVERY_CORE)

test-avx2: $(VENV)/.installed
	$(AVX2_ONLY) $(BIN)/pytest $(EVERY_CORE) $(AVX2_TESTS)

test-slow: test-cluster test-chaos

# Two at a time, on any machine: each starts several processes itself.
test-cluster: $(VENV)/.installed
	$(BIN)/pytest -m slow -k cluster $(TWO_AT_A_TIME)

test-chaos: $(VENV)/.installed
	$(BIN)/pytest -m slow -k "not cluster" $(TWO_AT_A_TIME)

# Without a browser they skip, with a reason; the lane of that name needs one.
test-pages: $(VENV)/.installed
	$(BIN)/pytest -m browser tests/report tests/serve

test-browser: export HAT_RAY_BROWSER := needed
test-browser: test-pages

test-docs: $(VENV)/.installed
	$(BIN)/pytest -m "slow or not slow" --timeout 900 tests/test_readme.py tests/test_api.py tests/latency/test_lake_readme.py

# The library is 1 GB, so that no other lane has it: elsewhere these tests skip.
test-comet: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[comet]"
	$(BIN)/pytest -m "slow or not slow" tests/evaluate/test_comet.py

test-minimal test-lowest: test-%: $(VENV)-%/.installed
	$(VENV)-$*/bin/pytest $(EVERY_CORE) $(CORE_TESTS)

$(VENV)-minimal/.installed: PINS := -c constraints.txt
$(VENV)-minimal/.installed $(VENV)-lowest/.installed: $(VENV)-%/.installed: pyproject.toml constraints.txt .ci/requirements.py
	$(PYTHON) -m venv $(VENV)-$*
	$(PYTHON) .ci/requirements.py $* > $(VENV)-$*/requirements.txt
	$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check $(PINS) -r $(VENV)-$*/requirements.txt
	$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

bench: $(VENV)/.installed
	$(BIN)/pytest -m benchmark -s --timeout 3600 tests/benchmarks/bench_*.py

# On a GPU machine there may be no network, and no virtual environment of ours: then its own Python is taken.
gpu-check:
	$(if $(wildcard $(VENV)/.installed),$(BIN)/python,$(PYTHON)) -m pytest -m gpu -s -rs -o timeout=1800 \
		tests/gpu tests/latency/test_gpu_timing.py

lint: $(VENV)/.installed
	$(BIN)/ruff format --check hat_ray jobs tests
	$(BIN)/ruff check hat_ray jobs tests
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-minimal $(VENV)-lowest runs build *.egg-info
