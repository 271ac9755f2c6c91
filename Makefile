# make demo, make test, make test-full, make chaos, make lint, make wheel: each sets up .venv first where it is not
# there or out of date. ARGS goes to what is run:  make demo ARGS=--dry-run    make test ARGS="-k dimension -x"
# PYTHON names the interpreter that .venv is made with:  make demo PYTHON=python3.12

SHELL := /bin/sh
VENV := .venv
INSTALLED := $(VENV)/.installed
RUN := $(VENV)/bin/python -m
CHECKED := embedding_integrity checks remediation reports demo tests bench conftest.py
WORKFLOWS := action.yml docs/nightly.yml
CANDIDATES := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14)

# An interpreter that no longer starts (Python was upgraded, the folder was copied) is set up anew.
ifneq ($(shell $(VENV)/bin/python -c 'print("starts")' 2>/dev/null),starts)
STALE := stale
endif

.PHONY: demo test test-full chaos bench lint wheel stale
.DEFAULT_GOAL := demo

demo: $(INSTALLED)
	@$(RUN) demo $(ARGS)

# Three workers, as many tests wait, each with a server of its own; ARGS="-n 0" runs the tests in one process. A test that
# hangs fails after ten minutes, with the stack of every thread; the ten slowest are named.
TESTS := tests -n 3 --dist worksteal --timeout 600 --durations 10
# Kept whatever the shell says: a hundred runs import the same modules, which one of them compiles.
test test-full: export PYTHONDONTWRITEBYTECODE :=

test: $(INSTALLED)
	@$(RUN) pytest $(TESTS) $(ARGS)

# The same tests with every property at its full number of examples, and more faults.
test-full: $(INSTALLED)
	@$(RUN) pytest $(TESTS) --hypothesis-profile=full $(ARGS)

# Every fault at its full number, half an hour: make chaos SEED=7 ARGS="--only kill-*"
chaos: $(INSTALLED)
	@$(RUN) tests.chaos $(if $(SEED),--seed $(SEED)) $(ARGS)

# Each benchmark against its baselines, about half an hour; writes docs/performance.md. Some alone:
# make bench ARGS="scan runs"
bench: $(INSTALLED)
	@$(RUN) bench $(ARGS)

lint: $(INSTALLED)
	@$(RUN) ruff check $(CHECKED)
	@$(RUN) ruff format --check $(CHECKED)
	@$(RUN) mypy $(CHECKED)
	@$(VENV)/bin/lint-imports --no-logo --no-cache
	@$(VENV)/bin/zizmor --quiet --offline --no-progress $(WORKFLOWS)
	@$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-actions action.yml
	@$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows docs/nightly.yml
	@$(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	@$(VENV)/bin/hadolint Dockerfile

# dist/ has the wheel and the source distribution, for pipx and its like.
wheel: $(INSTALLED)
	@$(RUN) hatchling build

# The stamp comes last, and .venv is made from nothing: an interrupted set-up is begun again, and
# what an earlier one installed is never left behind.
$(INSTALLED): pyproject.toml constraints.txt $(STALE)
	@set -e; \
	for candidate in $(CANDIDATES); do \
	    if found=$$("$$candidate" -c "$$SUITABLE" 2>/dev/null); then break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "expected Python 3.11 or newer, found none as: $(CANDIDATES)." >&2; \
	    echo "Install one, or name it: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "expected $$found to make virtual environments, found no module ensurepip." >&2; \
	    echo "On Debian and Ubuntu: apt install python3-venv (or the one of its version, such as python3.12-venv)" >&2; \
	    exit 1; \
	fi; \
	echo "setting up $(VENV) with $$found: a minute or two, once"; \
	"$$found" -m venv --clear $(VENV); \
	$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	touch $@

# Prints the interpreter behind a virtual environment: .venv may be the active one, and is cleared.
define SUITABLE
import os, sys
version = "%d.%d" % sys.version_info[:2]
path = os.path.join(sys.base_prefix, "bin", "python" + version)
if sys.version_info < (3, 11):
    sys.exit(1)
print(path if os.access(path, os.X_OK) else sys.executable)
endef
export SUITABLE
