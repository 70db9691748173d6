# Tenantry. `make help` lists what there is.

PYTHON ?= python3
PANEL ?= 127.0.0.1:8000
SIP ?= 127.0.0.1:5060
# Metrics and health of sipd over HTTP; off while empty
METRICS ?= 127.0.0.1:9465
VAR ?= var
# TLS and secure WebSocket, off while empty: TLS=127.0.0.1:5061 WSS=127.0.0.1:8443, with TENANTRY_TLS_CERTIFICATE
TLS ?=
WSS ?=
# Media relay, off while empty: the ng port of an rtpengine, MEDIA=udp:127.0.0.1:2223
MEDIA ?=
# More words for pytest: make test ARGS='-k registrar -x'
ARGS ?=
# How many tests run at a time: most of an integration test is waiting
JOBS ?= 3
# make fuzz: what is attacked, for how long
TARGET ?= siege
SECONDS ?= 60
AGAIN ?=
# make soak: how much
TRANSACTIONS ?= 200000

VENV := .venv
PY := $(VENV)/bin/python
RUN := $(VENV)/.run-packages
DEV := $(VENV)/.dev-packages
VENDOR := panel/static/vendor/icons.svg
PAGES := $(shell find templates panel -name vendor -prune -o \( -name '*.html' -o -name '*.py' \) -print)

export TENANTRY_STATE_DIR := $(VAR)

.DEFAULT_GOAL := help
.PHONY: help setup run demo seed shell test check format lock fuzz soak bench clean
.DELETE_ON_ERROR:

help: ## list what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  Variables of make run, and their values now: PANEL=$(PANEL) SIP=$(SIP) METRICS=$(METRICS) VAR=$(VAR) PYTHON=$(PYTHON)"

setup: $(RUN) $(VENDOR) ## install what running needs; the targets below do it by themselves
	@:

run: setup ## start panel and sipd on this machine, until Ctrl-C (PANEL=host:port SIP=host:port METRICS=host:port VAR=folder TLS=host:port WSS=host:port MEDIA=udp:host:port)
	@exec $(PY) ops/run.py --panel $(PANEL) --sip $(SIP) --state $(VAR) $(if $(TLS),--tls $(TLS)) $(if $(WSS),--wss $(WSS)) $(if $(METRICS),--metrics $(METRICS)) $(MEDIA:%=--media %)

demo: setup ## the whole story with real SIP on loopback, in under a minute
	@exec $(PY) ops/demo.py

seed: setup ## fill the database of make run with an example cast and their data
	@$(PY) ops/run.py --state $(VAR) --prepare
	@$(PY) -m panel.cli seed

shell: setup ## a Python shell with the panel's database and models at hand
	@$(PY) ops/run.py --state $(VAR) --prepare
	@exec $(PY) -m panel.cli shell

test: $(DEV) $(VENDOR) ## unit, integration and end-to-end tests (ARGS='-k name' JOBS=1)
	@ops/test-packages.sh
	@exec $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(DEV) $(VENDOR) ## style, types, import rules, templates, migrations, lock files
	@exec $(PY) ops/check.py

format: $(DEV) ## let ruff put the code into shape
	@$(PY) -m ruff check --fix-only --quiet .
	@$(PY) -m ruff format .

soak: $(DEV) ## mixed traffic over a bad network for TRANSACTIONS=200000, while memory and open files are watched
	@exec $(PY) tests/soak/run.py --transactions $(TRANSACTIONS)

fuzz: $(DEV) ## try to break the edge for SECONDS=60 (TARGET=siege, bytes or parsers; AGAIN=file tries one input)
	@exec $(PY) tests/fuzz/run.py $(TARGET) --seconds $(SECONDS) $(if $(AGAIN),--again $(AGAIN))

bench: $(DEV) ## what the edge costs for each registration and call: alone, and beside Kamailio
	@$(PY) bench/run.py
	@$(PY) bench/restart.py
	@$(PY) bench/calls_kept.py
	@$(PY) bench/flood.py
	@$(PY) bench/registrations.py
	@exec $(PY) bench/wire.py $(ARGS)

lock: $(DEV) ## write the lock files anew (UPGRADE=1: with the newest versions)
	@ops/lock.sh

clean: ## remove what make made, except the data in VAR
	rm -rf $(VENV) node_modules panel/static/vendor test-results *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# The development packages are a superset of those for running, so either stamp will do for running.
$(RUN): requirements.lock pyproject.toml ops/bootstrap.py
	@$(PYTHON) ops/bootstrap.py $(VENV) requirements.lock
	@touch $@

$(DEV): requirements-dev.lock requirements.lock pyproject.toml ops/bootstrap.py
	@$(PYTHON) ops/bootstrap.py $(VENV) requirements-dev.lock
	@touch $(RUN) $@

$(VENDOR): package-lock.json ops/frontend.py $(PAGES) | $(RUN)
	@$(PY) ops/frontend.py
	@touch $@
