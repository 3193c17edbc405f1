# make demo   the main job on the built-in dataset, to a table and a picture
# make test   the whole test suite
# make lint   linter, formatter and type checker, as CI runs them

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/installed
	$(BIN)/python train_DIGITS.py --oracle

# The processes of a parallel suite, with as many threads each as there are cores, wait for each other.
test: export OMP_NUM_THREADS = 1
test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "error: found Python " + sys.version.split()[0] + ", expected 3.10 or later; name another with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing requirements.txt into $(VENV) (once; torch is large)"
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt pyproject.toml $(VENV)/installed
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV)
