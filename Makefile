# Two commands: `make demo` shows the whole job, `make test` checks the project.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Where there is no screen, a virtual one.
ON_SCREEN := $(if $(DISPLAY)$(WAYLAND_DISPLAY),,xvfb-run -a -s "-screen 0 1600x1000x24")

.PHONY: demo test lint install libraries clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "Python 3.11 to 3.13 is needed, this is $$($(PYTHON) --version); say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv is missing: sudo apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[qt,dev]'
	@touch $@

libraries:
	@scripts/system-libraries.sh

demo: install libraries
	rm -rf demo
	$(ON_SCREEN) $(BIN)/ectkd demo --out demo $(if $(DISPLAY)$(WAYLAND_DISPLAY),--show,--screenshot demo/overlay.png)

test: install libraries lint
	# The tests' networks are small: a second thread would only wait for the first, where
	# a second process runs the files without windows.
	OMP_NUM_THREADS=1 $(ON_SCREEN) $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
