# One way to do each thing. On a machine with Python 3.11+, git and make, `make run` is enough.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
# Only what the lock files name, only by hash, only wheels: nothing is built or resolved here.
LOCKED := $(PIP) install --require-hashes --only-binary :all: --progress-bar off

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help run test check fmt thorough soak bench bench-peers lock clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1	\2/p' Makefile | expand -t 20

run: $(VENV)/.run ## Set up what is missing, then start the controller on ./definitions (ARGS="...")
	@exec $(BIN)/windlass run $(ARGS)

test: $(VENV)/.dev ## Run the tests (ARGS="tests/test_x.py -k word")
	@$(BIN)/pytest -q -n auto --dist worksteal $(ARGS)

check: $(VENV)/.dev ## Lint, format, types, layers, tidiness, docs; changes nothing
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { $(BIN)/ruff format --check; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@said=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$said"; exit 1; }
	@$(BIN)/pytest -q tests/test_tidy.py tests/test_docs.py

fmt: $(VENV)/.dev ## Format, and mend what the linter can mend
	@$(BIN)/ruff check --fix --quiet --exit-zero
	@$(BIN)/ruff format

thorough: $(VENV)/.dev ## All tests, the slow ones and many more examples included
	@$(BIN)/pytest -q -n auto --dist worksteal -m "thorough or not thorough" \
		--hypothesis-profile thorough $(ARGS)

soak: $(VENV)/.dev ## Execute 200,000 in one controller; memory, handles and file stay (ARGS=COUNT)
	@$(BIN)/python -m tests.growth.soak $(ARGS)

bench: $(VENV)/.dev ## Measure, beside the machine's own limits (ARGS="t1 t2" for some)
	@$(BIN)/python -m tests.bench $(ARGS)

bench-peers: $(VENV)/.dev ## Measure beside DBOS, Prefect and Dagu (ARGS="dbos t1 t2" for some)
	@$(BIN)/python -m tests.bench.peers $(ARGS)

lock: $(VENV)/.python ## Write requirements/*.lock from pyproject.toml (ARGS=--upgrade moves the pins)
	@away=$$(mktemp -d) && trap 'rm -rf "$$away"' EXIT && \
	$(BIN)/python -m venv "$$away" && \
	"$$away/bin/python" -m pip --disable-pip-version-check -qq install uv && \
	lock() { "$$away/bin/uv" pip compile --quiet --generate-hashes --universal \
		--python-version 3.11 --no-header --no-annotate $(ARGS) "$$@"; } && \
	ours="pyproject.toml requirements/build.in" && \
	lock $$ours -o requirements/run.lock && \
	lock $$ours --extra dev --extra postgres -c requirements/run.lock -o requirements/dev.lock && \
	for peer in requirements/peers/*.in; do \
		lock "$$peer" -o "$${peer%.in}.lock" || exit 1; \
	done && \
	if command -v npm >/dev/null; then \
		npm install --prefix requirements/peers/dagu --package-lock-only --no-audit --no-fund \
			--omit-lockfile-registry-resolved --silent; \
	else echo "npm is not installed: requirements/peers/dagu stays as it is" >&2; fi

clean: ## Remove .venv, caches and builds; never the controller's state
	@rm -rf $(VENV) .bench-* .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The set-up. A stamp is newer than what it was made from, so a second run starts at once; each
# stamp needs the one before it, so that `make -j` never installs into one place twice at a time.

$(VENV)/.python:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Windlass needs Python 3.11 or newer; tried: $(or $(PYTHON),python3 python3.13 python3.12 python3.11)." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "Setting up $(VENV) with $$("$$python" --version), once." >&2; \
		"$$python" -m venv --clear $(VENV); \
	fi
	@touch $@

$(VENV)/.run: $(VENV)/.python requirements/run.lock pyproject.toml
	@$(LOCKED) -r requirements/run.lock
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.lock
	@$(LOCKED) -r requirements/dev.lock
	@touch $@
