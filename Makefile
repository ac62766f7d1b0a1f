# Targets for users: run, test, install, uninstall. For developers: lint, bench,
# simulate, coverage, mutate, crash, lock, clean. `make help` lists them.

SHELL := /bin/sh
VENV  := .venv
BIN   := $(VENV)/bin
LOCK_VENV := build/lock-venv
MUTATION_VENV := build/mutation-venv
SEEDS ?= 20
KILLS ?= 200

# The newest Python that is at least 3.11; a name on the path may be an empty shim, so each is tried.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$name" && break; \
	done)

# Where `make install` puts things; DESTDIR is put in front of them all, to stage a package.
PREFIX     ?= /opt/scheduler
SYSCONFDIR ?= /etc
TARGET := $(DESTDIR)$(PREFIX)
CONFIG := $(DESTDIR)$(SYSCONFDIR)/scheduler
UNITS  := $(DESTDIR)$(SYSCONFDIR)/systemd/system

# The package itself needs nothing beyond the lock: its build backend is in it.
INSTALL_SELF := $(BIN)/python -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .

.PHONY: help run test install uninstall lint bench simulate coverage mutate crash lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-10s %s\n' "$$name" "$$text"; done

run: $(VENV)/.installed ## create the environment and run the scheduler with config/
	@SCHEDULER_STATE_DIR="$${SCHEDULER_STATE_DIR:-$(CURDIR)/.state}" exec $(BIN)/scheduler run --config config

# More processes than two cores: the tests of the real process mostly wait for it.
test: $(VENV)/.installed-dev ## run every test
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile

INSTALL_LOCKED = $(TARGET)/bin/python -m pip install --quiet --require-hashes --requirement requirements.lock

install: ## as root: the service, in /opt/scheduler; what is in /etc/scheduler stays as it is
	$(call need_python)
	@test -n "$(DESTDIR)" || $(PYTHON) -c 'import sys; sys.exit(sys.base_prefix.startswith(("/home/", "/root/")))' \
		|| { echo '$(PYTHON) is in a home, which the service cannot see; make install PYTHON=/usr/bin/python3' >&2; exit 1; }
	$(PYTHON) -m venv $(TARGET)
	$(INSTALL_LOCKED)
	$(TARGET)/bin/python -m pip install --quiet --no-index --no-deps --no-build-isolation --force-reinstall .
	@test -z "$(DESTDIR)" || grep -lIr '^#!$(TARGET)/bin/' $(TARGET)/bin | xargs -r sed -i '1s|^#!$(DESTDIR)|#!|'
	install -d -m 755 $(CONFIG) $(UNITS)
	@for file in config/*; do \
		test -e $(CONFIG)/$${file##*/} || install -v -m 644 $$file $(CONFIG)/; done
	@for unit in systemd/*.service; do \
		sed 's|/opt/scheduler/|$(PREFIX)/|; s|/etc/scheduler/|$(SYSCONFDIR)/scheduler/|g' $$unit >$(UNITS)/$${unit##*/} || exit 1; done
	@test -n "$(DESTDIR)" || systemctl daemon-reload
	@echo 'now: edit $(SYSCONFDIR)/scheduler/tasks.yaml; systemctl enable --now scheduler (or restart, after an upgrade)'

uninstall: ## as root: remove the service; the configuration and the ledger stay
	@test -n "$(DESTDIR)" || systemctl disable --now scheduler
	rm -f $(addprefix $(UNITS)/,$(notdir $(wildcard systemd/*.service)))
	@test ! -e $(TARGET)/pyvenv.cfg || rm -rf $(TARGET)
	@test -n "$(DESTDIR)" || systemctl daemon-reload
	@echo 'kept: $(SYSCONFDIR)/scheduler, /var/lib/scheduler'

lint: $(VENV)/.installed-dev ## check style, types and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev ## measure side by side with peers; options: ARGS="--tasks 10000"
	$(BIN)/python -m benchmarks $(ARGS)

# On two cores: each process takes every other test.
simulate: $(VENV)/.installed-dev ## run simulated trading weeks, SEEDS=20 of them
	SEEDS=$(SEEDS) $(BIN)/python -m pytest --numprocesses auto --dist worksteal tests/simulation

coverage: $(VENV)/.installed-dev ## every branch of scheduler/core is taken by tests/core alone
	$(BIN)/python -m coverage run --source=scheduler/core -m pytest -q tests/core
	$(BIN)/python -m coverage report --show-missing --skip-covered --fail-under=100

# Hours for all of it. tests/core/mutation.md says what has been learnt of each module.
mutate: $(MUTATION_VENV)/.installed ## change scheduler/core here and there and see that a test fails; MODULES="triggers plan"
	$(MUTATION_VENV)/bin/mutmut run $(foreach module,$(MODULES),'scheduler.core.$(module).*')
	$(MUTATION_VENV)/bin/mutmut results

crash: $(VENV)/.installed-dev ## kill -9 the real daemon KILLS=200 times and judge its ledger
	$(BIN)/python -m benchmarks.crashes --kills $(KILLS) $(ARGS)

# All locks come from pyproject.toml: the development lock first, the others constrained by it, so that one
# environment can hold them. Hashes for every platform, and no index: where packages come from is local business.
COMPILE = $(LOCK_VENV)/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --no-header $(UPGRADE)

lock: ## pin the dependencies anew; UPGRADE=--upgrade takes newer ones
	$(call need_python)
	$(PYTHON) -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip install --quiet uv
	$(COMPILE) --group dev pyproject.toml --output-file requirements-dev.lock
	$(COMPILE) --group build --constraint requirements-dev.lock pyproject.toml --output-file requirements.lock
	$(COMPILE) --group mutation --constraint requirements-dev.lock pyproject.toml \
		--output-file requirements-mutation.lock
	@! grep -n '://' requirements*.lock || { echo 'a lock names a host' >&2; exit 1; }
	rm -rf $(LOCK_VENV)

clean: ## remove what was built; state is kept
	rm -rf $(VENV) build dist mutants .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find scheduler tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

define need_python
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3.12 ...' >&2; exit 1; }
endef

$(BIN)/python:
	$(call need_python)
	$(PYTHON) -m venv $(VENV)

# A stamp is newer than all that went into it, so a second `make run` starts at once.
$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(INSTALL_SELF)
	@touch $@

$(MUTATION_VENV)/.installed: requirements-mutation.lock
	$(call need_python)
	$(PYTHON) -m venv $(MUTATION_VENV)
	$(MUTATION_VENV)/bin/python -m pip install --quiet --require-hashes --requirement $<
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock
	$(INSTALL_SELF)
	$(BIN)/python -m pip check
	@touch $@ $(VENV)/.installed
