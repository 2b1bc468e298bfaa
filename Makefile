# make demo   installs into .venv and runs the demos      make test   installs into .venv and tests
# make lint   ruff     make types   mypy
# make bench  side by side with other engines, writes benchmarks/RESULTS.md     make bench-quick   in two minutes
# make clean  removes what these made     PYTHON=python3.12 make ...   chooses the interpreter

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint types bench bench-quick peers clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demos
	$(BIN)/python demos/digits_cnn.py
	@echo
	$(BIN)/python demos/one_neuron.py
	@echo
	$(BIN)/python demos/losses_three_ways.py
	@echo
	$(BIN)/python demos/see_backprop.py
	@echo
	@echo "The pictures are in $(CURDIR)/out; open index.html there to step through graphs"

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy --strict

bench: peers
	$(BIN)/python benchmarks/bench.py

bench-quick: peers
	$(BIN)/python benchmarks/bench.py --seconds 1

peers: $(VENV)/.peers

# Each stamp is made after its installation succeeded; a new pyproject.toml installs again.
$(VENV)/.made:
	@command -v $(PYTHON) > /dev/null || { \
	  echo "There is no '$(PYTHON)' here. Install Python 3.10 or newer, or name yours:"; \
	  echo "  make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Python 3.10 or newer is needed; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another:"; \
	  echo "  make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu:"; \
	  echo "  sudo apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.demos: $(VENV)/.made pyproject.toml
	@echo "Installing tinygrad_lite and what its demos need into $(VENV) (about a minute)"
	@$(INSTALL) --editable '.[demos]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@echo "Installing tinygrad_lite and its development tools into $(VENV) (about a minute)"
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.demos

# The engines and a browser's driver. One command for all of it, so that pip sees the exact PyTorch asked for before anything pulls another.
$(VENV)/.peers: $(VENV)/.made pyproject.toml
	@echo "Installing the engines to compare with, and Playwright, into $(VENV) (PyTorch is large)"
	@$(INSTALL) --editable '.[dev,peers,browser]'
	@touch $@ $(VENV)/.dev $(VENV)/.demos

clean:
	rm -rf $(VENV) out build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
