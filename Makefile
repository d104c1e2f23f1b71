PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CORE := fleetops/errors.py,fleetops/model.py,fleetops/planning.py,fleetops/policy/*,fleetops/scheduler/*

.DEFAULT_GOAL := help
.PHONY: help setup compiled demo test crash-test cluster-crash-test fuzz bench bench-check check format docs pictures lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("fleetops needs Python 3.11 or newer: make PYTHON=python3.x") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q fleetops
	@touch $@

# pip compiles what it installs, but not what it only links to; without it each command would begin with compiling itself
# wherever PYTHONDONTWRITEBYTECODE is set or the folder cannot be written to.
compiled: $(READY)
	@$(BIN)/python -m compileall -q fleetops

setup: $(READY) ## make the virtual environment with the locked packages

demo: $(READY) ## run the redeployment sample against a sandbox of its own, through to results.csv
	@rm -rf demo
	$(BIN)/fleetops validate sample_manifests/redeployment.yaml
	FLEETOPS_STATE_DIR=demo/state $(BIN)/fleetops sandbox --latency 20ms -- \
		$(BIN)/fleetops run sample_manifests/redeployment.yaml --yes --report results.csv
	@head -4 results.csv

test: $(READY) ## run the tests; the core has to be covered in full, the rest by 92 % of its branches
	$(BIN)/python -m pytest --cov --cov-report=
	@$(BIN)/coverage report --fail-under=92
	@$(BIN)/coverage report --fail-under=100 --precision=2 --include='$(CORE)' >/dev/null || \
		($(BIN)/coverage report --precision=2 --include='$(CORE)'; echo 'the core has to be covered in full'; exit 1)

crash-test: $(READY) ## kill real runs at random moments, at least 200 times, and audit what arrived
	$(BIN)/python -m tests.crash $(CRASH_ARGS)

cluster-crash-test: $(READY) ## kill workers, submitters and PostgreSQL at random moments, at least 100 times, and audit what arrived
	$(BIN)/python -m tests.cluster $(CRASH_ARGS)

fuzz: $(READY) ## feed hostile manifests to the parsers, and play 20,000 simulated campaigns
	FLEETOPS_FUZZ_EXAMPLES=5000 $(BIN)/python -m pytest tests/manifest/test_hostile.py
	$(BIN)/python -m fleetops.simulation --campaigns 20000

bench: compiled ## measure speed beside other clients, and write the tables to docs/performance.md; about 25 minutes
	$(BIN)/python -m benchmarks.speed --out docs/performance.md $(BENCH_ARGS)

bench-check: compiled ## measure what has a target, and fail where one is missed
	$(BIN)/python -m benchmarks.speed --check --only throughput,waiting,pacing,large $(BENCH_ARGS)

check: $(READY) ## format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## build the site into docs/_site; a warning is an error
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements-docs.lock
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_site

pictures: $(READY) ## make the pictures of the README anew, against a sandbox
	$(BIN)/python docs/pictures.py

lock: $(READY) ## resolve the dependencies anew into requirements.lock and requirements-docs.lock
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command 'make lock' --upgrade --extra cluster --group dev pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command 'make lock' --upgrade --constraint requirements.lock \
		--group docs pyproject.toml --output-file requirements-docs.lock

clean: ## remove what the targets made
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .hypothesis demo results.csv docs/_site docs/generated
