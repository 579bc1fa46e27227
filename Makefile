# Thin verbs. `make demo` and `make test` do all set-up on a fresh machine themselves.
#
#   make setup                    .venv with all packages, and the mosquitto program
#   make demo [DATA=dir] [SEED=n] [ARGS=...]    a whole federation on this machine
#   make demo SOURCE=opcua|modbus|sparkplug     the same, its machines behind a real protocol
#   make test                     the tests, but for those of the next two lines
#   make test-drills              faults and attacks on a whole federation of real processes
#   make test-deploy              the deployment, on machines that boot systemd; as root, else skipped
#   make lint                     ruff, mypy, and what deploys
#   make bench [NAME=name] [ARGS=...]           one measurement; without NAME the list of them
#   make wheels                   the four wheels into dist/
#   make bundle [ARCH=x86_64|aarch64]           all that a plant without internet needs, into dist/
#   make pins                     deploy/requirements: what a bundle is made of
#   make sbom                     what agents and coordinators are made of (CycloneDX), into dist/
#   make clean                    remove caches and dist/; .venv and runs/ stay

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --quiet
PACKAGES := ./shared ./agent ./coordinator
PROJECTS := pyproject.toml $(PACKAGES:./%=%/pyproject.toml)
STAMP := $(VENV)/.setup-done
# where the demo and the tests look for it
BROKER_PATH := /usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin
ARCH ?= $(shell uname -m)
# /dev/shm, if it is writable and has 4 GiB free
ROOMY = $(shell [ -w /dev/shm ] && df -Pk /dev/shm | awk 'NR == 2 && $$4 > 4194304 { print "/dev/shm" }')

.PHONY: setup demo test test-drills test-deploy lint bench wheels bundle sbom pins clean mosquitto machines

setup: mosquitto $(STAMP)

demo: setup
	@$(BIN)/fedmill demo $(if $(DATA),--data "$(DATA)") $(if $(SOURCE),--source "$(SOURCE)") $(if $(SEED),--seed "$(SEED)") $(ARGS)

# Hundreds of processes are started: without bytecode on disk each would compile its modules anew.
# A run leaves half a GiB of state folders, in memory where there are some GiB: they fsync much.
# What fails (1: pytest ran to its end) runs once more, alone: among thousands of tests with real
# processes a loaded machine may upset one. Its failure stays in the output. Pytest also remembers
# what failed of other verbs: the second run takes the same kind of tests as the first.
define run_tests
	@export PYTHONDONTWRITEBYTECODE= PYTEST_DEBUG_TEMPROOT="$${PYTEST_DEBUG_TEMPROOT:-$(ROOMY)}"; \
	code=0; $(BIN)/pytest -n $(1) -m "$(2)" --dist worksteal || code=$$?; \
	[ $$code -eq 1 ] || exit $$code; \
	echo "$@: what failed runs once more, alone"; \
	$(BIN)/pytest -m "$(2)" --exitfirst --last-failed --last-failed-no-failures none
endef

test: setup
	$(call run_tests,2,not drill and not deploy)

# Drills wait more than they compute.
test-drills: setup
	$(call run_tests,4,drill)

# One after the other, in one process: the steps of a file are one plant's history.
test-deploy: setup machines
	@$(BIN)/pytest -m deploy --timeout=900 --durations=15 tests/deploy $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/yamllint --strict deploy
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint -q --offline deploy/ansible

bench: setup
	@$(BIN)/python -m tests.bench $(or $(NAME),--list) $(ARGS)

wheels: setup
	@$(PIP) wheel --no-deps --wheel-dir dist $(PACKAGES) .
	@ls dist/*.whl

bundle: sbom
	@$(BIN)/python deploy/requirements/bundle.py --arch $(ARCH)

sbom: setup
	@$(BIN)/python deploy/requirements/sbom.py

pins: setup
	@$(BIN)/python deploy/requirements/pins.py

clean:
	@rm -rf dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	@find shared agent coordinator tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): $(PROJECTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "setup: Python 3.11 or later is needed; name one with PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "setup: Python's venv module is missing: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "setup: installing torch"
	@$(PIP) install torch==2.13.0
	@echo "setup: installing fedmill and what it needs"
	@$(PIP) install $(PACKAGES:%=-e %) -e '.[dev]'
	@touch $@

mosquitto:
	@PATH=$(BROKER_PATH) command -v mosquitto >/dev/null && exit 0; \
	if [ "$$(id -u)" -eq 0 ]; then root=env; \
	elif sudo -n true 2>/dev/null; then root="sudo -n"; \
	else root=; fi; \
	if [ -z "$$root" ] || ! command -v apt-get >/dev/null; then \
	  echo "setup: mosquitto is missing; install it (Debian: apt-get install mosquitto)" >&2; exit 1; \
	fi; \
	echo "setup: installing mosquitto"; \
	$$root apt-get -qq update && \
	$$root env DEBIAN_FRONTEND=noninteractive apt-get -qq install mosquitto >/dev/null

# as another user than root, or without apt-get, the tests skip and say what is missing
machines:
	@[ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || exit 0; \
	PATH=$(BROKER_PATH):/bin:/sbin; missing=; \
	for program in debootstrap systemd-nspawn ip ssh pgrep; do \
	  command -v $$program >/dev/null || missing=yes; \
	done; \
	[ "$$missing" ] || exit 0; \
	echo "test-deploy: installing debootstrap systemd-container iproute2 openssh-client procps"; \
	{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install \
	  debootstrap systemd-container iproute2 openssh-client procps >/dev/null; } || true
