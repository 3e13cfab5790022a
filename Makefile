# `make demo` and `make test` set up what they need on the first call.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test lint format docs bench lock

setup: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: setup
	rm -rf demo-project
	$(BIN)/resight demo demo-project

# One process a core, each with one thread: threads of several processes would wait for each other.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	$(BIN)/python docs/make_reference.py

bench: setup
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

# Resolves anew in an empty environment; look at the difference before committing it.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --editable '.[dev]'
	build/lock/bin/python -m pip freeze --exclude-editable \
		| sed -E '/^(nvidia-|cuda-|triton==)/s/$$/ ; sys_platform == "linux" and platform_machine == "x86_64"/' \
		> requirements.lock
