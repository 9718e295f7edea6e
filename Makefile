# The targets are implemented in ops/; this file only calls them. The caller's environment is honoured: see
# `make doctor` for every effective setting.

PYTHON := /usr/bin/python3
# Nothing of a caller's own Python may decide which code runs.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONSAFEPATH VIRTUAL_ENV

SYSTEM := $(PYTHON) -E -s -B -m
DEV := .venv/bin
# The tests' own service, separate from a service in use.
RUNYARD_TEST_STATE ?= /var/lib/runyard-test
export RUNYARD_TEST_STATE

.DEFAULT_GOAL := help
.PHONY: help up down install uninstall status logs version doctor posture images gc keys token backup restore runsc check test test-quick test-all test-vm bench lock openapi web clean python dev test-setup

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

up: python ## install what is missing, start the service, wait until it is healthy; ROLE=api or worker for one part
	@$(SYSTEM) ops.up

down: python ## stop the service and check that nothing is left behind
	@$(SYSTEM) ops.down

install: python ## install the service as systemd units, start it now and at boot; run again to upgrade
	@$(SYSTEM) ops.systemd install

uninstall: python ## remove the systemd units; records and settings are kept unless PURGE=1
	@$(SYSTEM) ops.systemd uninstall

status: python ## show whether the service runs and which languages are ready
	@$(SYSTEM) ops.status

logs: ## follow the service's log
	@if [ -z "$$STATE_DIR" ] && [ -e /etc/systemd/system/runyard-prepare.service ]; then journalctl -n 100 -f -u 'runyard-*'; \
	  else tail -n 100 -F "$${STATE_DIR:-/var/lib/runyard}/log/service.log"; fi

version: ## show the version in this folder; make status shows the running one
	@$(SYSTEM) ops.version

doctor: python ## show the current settings, and what this machine lacks
	@$(SYSTEM) ops.doctor

posture: dev ## write the posture file of ENGINE and RUNTIME from measurements on this machine, for manual review
	@$(DEV)/python -m ops.posture

images: python ## build outdated runner images; LANG=node for one, REFRESH=1 for newer packages
	@$(SYSTEM) ops.upkeep images $(if $(filter command line,$(origin LANG)),$(LANG)) $(if $(REFRESH),--refresh)

backup: python ## write records, files, keys and settings to FILE=…, while the service runs or not
	@$(SYSTEM) ops.backup.save

restore: python ## put the backup FILE=… in place while no service runs; REPLACE=1 if there is a state already
	@$(SYSTEM) ops.backup.load

runsc: python ## build a current gVisor into /usr/local/bin, faster than Debian's (some minutes)
	@$(SYSTEM) ops.gvisor.build

gc: python ## remove expired files and unused image layers (while no service runs)
	@$(SYSTEM) ops.upkeep gc

keys: python ## manage stored keys without HTTP: list; KEYS="create --plan free --label ci", KEYS="revoke key_…"
	@$(SYSTEM) ops.keys $(KEYS)

token: python ## print the first static token of the running service (root)
	@$(SYSTEM) ops.status --token

check: dev ## lint, types, layers, unit tests
	@$(DEV)/ruff check .
	@$(DEV)/ruff format --check .
	@$(DEV)/mypy
	@$(DEV)/lint-imports
	@$(DEV)/pytest -q -n 2 --dist loadfile --ignore=tests/unit/test_oci_launcher.py tests/unit
	@# Its reaper collects every child of its process, also those that other tests wait for.
	@$(DEV)/pytest -q tests/unit/test_oci_launcher.py
	@# Two real tests that cannot be loaded together are better known now than after the images are built.
	@found=$$($(DEV)/pytest -qq --collect-only --ignore=tests/unit tests 2>&1) || { echo "$$found" >&2; exit 1; }

test: check test-setup ## check, and all tests on real containers (root)
	@# Alone first: tests that overload the machine. Then two processes: those of faults wait most of their time.
	@failed=0; \
	$(DEV)/pytest -q -m 'not slow' --durations=20 tests/adversarial tests/engines || failed=1; \
	$(DEV)/pytest -q -m 'not slow' --durations=20 -n 2 --dist loadscope --no-loadscope-reorder \
	  --ignore=tests/unit --ignore=tests/adversarial --ignore=tests/engines tests || failed=1; \
	exit $$failed

test-quick: test-setup ## a part of every real test on the default column (root); no unit tests
	@RUNYARD_TEST_COLUMNS=oci/crun/template $(DEV)/pytest -q -m 'quick and not slow' --durations=40 --ignore=tests/unit tests

test-all: check runsc test-setup ## test, and the slow tests
	@RUNYARD_CHAOS_S=$${RUNYARD_CHAOS_S:-60} $(DEV)/pytest -q --durations=40 --ignore=tests/unit tests

test-vm: python ## the service on a stock Debian, booted under emulation (over an hour): SUITE=bookworm or trixie
	@SUITE=$(SUITE) $(SYSTEM) tests.vm

bench: dev ## benchmark, as ratios to the start of a bare interpreter; BENCH=quick, BENCH="latency stream", BENCH=--docker
	@$(DEV)/python -m bench $(BENCH)

lock: dev ## write the lock files, versions kept; LANG=python for one image's, UPGRADE=1 for the newest versions
	@$(DEV)/python -m ops.lock $(if $(filter command line,$(origin LANG)),$(LANG))

openapi: dev ## write the committed copy of the OpenAPI document
	@$(DEV)/python -m ops.openapi

web: ## rebuild the admin page (needs Node and npm)
	@$(SYSTEM) ops.web

clean: ## remove build and tool caches from this folder
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build web/node_modules screenshots
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@test -x $(PYTHON) || { apt-get update -q && apt-get install -q -y --no-install-recommends python3; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is too old: 3.11 or newer is needed" >&2; exit 1; }

dev: python
	@$(SYSTEM) ops.install --dev

test-setup: dev
	@STATE_DIR=$(RUNYARD_TEST_STATE) $(SYSTEM) ops.upkeep tests
