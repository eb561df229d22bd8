# What one types to run, test and check the product. It needs Python 3.11 or newer and make, nothing else:
# each target first makes the virtual environment .venv from constraints.txt, when that is missing or out of date.
#
#   make demo ARGS=--help        hand options to the command
#   make PYTHON=/opt/python3.12  choose the Python of a new .venv

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-fast soak simulator simulate lint types check docs compiled pure bench bench-peers bench-profile lock clean FORCE

PY := .venv/bin/python
STAMP := .venv/.installed
EXTRAS := demo,dev,registry
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-input

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## Run the whole product here: embedded broker, real purchases, live view, report, audit
	@$(PY) -m orchestrator demo $(ARGS)

test: $(STAMP) ## Run all tests, on Apache Kafka too where Java and Maven are here
	@if command -v java >/dev/null && command -v mvn >/dev/null; then $(PY) -m tests.kafka.broker || true; fi
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

test-fast: $(STAMP) ## Run the tests that need no broker
	@$(PY) -m pytest -m 'not kafka and not broker' $(ARGS)

soak: $(STAMP) ## Faults on three nodes of Apache Kafka: MINUTES=20, ARGS='--seed 1 --classes kill,zombie'
	@$(PY) -m tests.soak --minutes $(or $(MINUTES),20) $(ARGS)

simulator: $(STAMP) ## Fault schedules against the real loop, without a broker: SCHEDULES=10000
	@$(PY) -m tests.simulator --schedules $(or $(SCHEDULES),10000) $(ARGS)

simulate: $(STAMP) ## Learning in a market whose truth is known, beside who knows it: ARGS='--customers 8000 --seeds 1-8'
	@$(PY) -m orchestrator simulate $(ARGS)

lint: $(STAMP) ## Check style and formatting with ruff
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: $(STAMP) ## Check types with mypy
	@$(PY) -m mypy

check: lint types test ## Everything that CI runs

docs: $(STAMP) ## Renew the generated parts of docs/: settings, metrics, modules
	@$(PY) -m tests.test_docs

compiled: $(STAMP) ## Compile in place what every event passes through: faster, the same bytes; needs a C compiler
	@COMPILE_ORCHESTRATOR=1 $(PY) setup.py -q build_ext --inplace
	@echo "compiled: make it again after a change of the sources, or go back with 'make pure'"

pure: ## Remove what was compiled in place: plain Python again
	@rm -rf build *.so && find orchestrator -name '*.so' -delete

bench: $(STAMP) ## Measure: every module of bench/, or one with NAME=world
	@for name in $(or $(NAME),$(basename $(notdir $(wildcard bench/*.py)))); do \
	  echo "== bench/$$name"; $(PY) -m bench.$$name $(ARGS) || exit 1; \
	done

bench-peers: $(STAMP) ## The one-moment job beside Faust, Quix Streams and Kafka Streams: ARGS='--rounds 3'
	@$(PY) -m bench.peers $(ARGS)

bench-profile: $(STAMP) ## Where the engine's time goes, by py-spy: ARGS='--definitions one_moment'
	@$(PY) -m bench.harness.profiling $(ARGS)

lock: ## Renew constraints.txt: the newest versions that pyproject.toml allows
	@$(call FIND_PYTHON,python3.11 python3 python3.12 python3.13); $(call MAKE_VENV,.cache/lock)
	@echo "Resolving the newest versions that pyproject.toml allows"
	@.cache/lock/bin/python $(PIP_INSTALL) --upgrade setuptools
	@.cache/lock/bin/python $(PIP_INSTALL) --no-build-isolation -e '.[$(EXTRAS)]'
	@{ sed -n '/^#/p' constraints.txt; \
	   .cache/lock/bin/python -m pip freeze --all --exclude-editable | grep -v '^pip==' | LC_ALL=C sort -f; \
	 } > .cache/constraints.txt
	@mv .cache/constraints.txt constraints.txt && rm -rf .cache/lock
	@echo "constraints.txt is renewed: run 'make check', and commit it"

clean: ## Remove everything that make has made, .venv included
	@rm -rf *.so .venv .cache .run .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist demo-report *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@find orchestrator -name '*.so' -delete

# A .venv whose Python was removed from the machine is made anew.
$(STAMP): constraints.txt pyproject.toml $(if $(wildcard $(PY)),,FORCE)
	@if ! $(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  $(call FIND_PYTHON,python3.13 python3.12 python3.11 python3 python); $(call MAKE_VENV,.venv) \
	fi
	@echo "Installing the locked versions into .venv, with $$($(PY) --version) (about a minute, once)"
	@$(PY) $(PIP_INSTALL) -c constraints.txt setuptools
	@PYTHONWARNINGS=ignore $(PY) $(PIP_INSTALL) -c constraints.txt --no-build-isolation -e '.[$(EXTRAS)]'
	@touch $(STAMP)

# Sets $found to a Python that is new enough: the one that PYTHON names, else the first of the candidates.
# A candidate may be there and not work, such as a version manager's stand-in, so each is asked for its version.
define FIND_PYTHON
found=; seen=; \
for candidate in $${PYTHON:+"$$PYTHON"} $(if $(PYTHON),,$(1)); do \
  version=$$("$$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then found=$$candidate; break; fi; \
  seen="$$seen$${seen:+, }$$candidate is $$version"; \
done; \
if test -z "$$found"; then \
  echo "make: Python 3.11 or newer is needed ($${seen:-no $${PYTHON:-python3} was found}):" \
    "install it, or name one with make PYTHON=..." >&2; \
  exit 1; \
fi
endef

# Makes a virtual environment with pip, also with a Python whose distribution has split off what is needed for it.
define MAKE_VENV
if "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
  "$$found" -m venv --clear $(1); \
elif "$$found" -m pip --version >/dev/null 2>&1; then \
  "$$found" -m venv --without-pip --clear $(1) && "$$found" -m pip --python $(1)/bin/python install --quiet pip; \
elif command -v virtualenv >/dev/null; then \
  virtualenv --quiet --clear --python "$$found" $(1); \
else \
  echo "make: $$found cannot make a virtual environment: install its venv package" \
    "(Debian and Ubuntu: apt-get install python3-venv), or name another with make PYTHON=..." >&2; \
  exit 1; \
fi || exit 1;
endef
