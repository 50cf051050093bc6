# Everything runs in .venv, made from the pinned requirements.lock. Needs Python 3.11 and nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: sweep test test-slow test-slow-waiting test-slow-others slurm-packages check bench studies wheels figures lock clean

sweep: .venv/ready
	$(BIN)/python -m sweep.launch

# Each worker takes whole files, so what a file's tests share is made once.
TEST_WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses=$(TEST_WORKERS) --dist=loadfile

test: .venv/ready
	$(PYTEST) --durations=10 -m "not slow"

# What mostly waits, for Slurm or a server, goes beside the others.
WAITING_TESTS := $(wildcard tests/test_slurm*.py) tests/test_sync.py

test-slow: .venv/ready
	$(MAKE) --jobs=2 --output-sync test-slow-waiting test-slow-others

test-slow-waiting:
	$(PYTEST) -m slow --durations=10 $(WAITING_TESTS)

test-slow-others:
	$(PYTEST) -m slow --durations=10 $(WAITING_TESTS:%=--ignore=%)

# A Slurm for its tests, on machines with apt-get; they start one of their own and need no service to run.
SLURM_PACKAGES := slurmctld slurmd slurm-client munge
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -n)

slurm-packages:
	@dpkg -s $(SLURM_PACKAGES) >/dev/null 2>&1 \
	|| { $(SUDO) apt-get update -qq \
		&& $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(SLURM_PACKAGES); } \
	|| echo "NO SLURM: its tests will be skipped ($(SLURM_PACKAGES) can't be installed with apt-get here)" >&2

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/ready
	$(BIN)/python -m benchmarks.fit_coverage
	$(BIN)/python -m benchmarks.fit_speed
	$(BIN)/python -m benchmarks.keep_memory
	$(BIN)/python -m benchmarks.scoring_speed
	$(BIN)/python -m benchmarks.sampling_speed
	$(BIN)/python -m benchmarks.contamination_speed
	$(BIN)/python -m benchmarks.training_speed
	$(BIN)/python -m benchmarks.sweep_overhead
	$(BIN)/python -m benchmarks.cost_growth
	$(BIN)/python -m benchmarks.tokenizing_speed
	$(BIN)/python -m benchmarks.loader_overhead
	$(BIN)/python -m benchmarks.corpus_memory

# Trainings for hours; what is done is kept in .cache/studies, so a stopped study goes on.
studies: .venv/ready
	$(BIN)/python -m benchmarks.coordinate_check
	$(BIN)/python -m benchmarks.learning_rate_transfer
	$(BIN)/python -m benchmarks.ablations
	$(BIN)/python -m benchmarks.straight_law
	$(BIN)/python -m benchmarks.recipe_at_scale

# What data=wheels trains on. A wheel for any machine alone, so that the corpus is the same on all.
wheels: .venv/ready
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --platform any --python-version 3.11 --implementation py --abi none --require-hashes --dest .cache/wheels --requirement configs/data/wheels.txt

# docs/forecasts.md and its figures, from what is published in forecasts/.
figures: .venv/ready
	$(BIN)/python -m benchmarks.forecast_pages

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# The pins of a fresh environment; torch without its local version, so that the lock installs on any machine.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet --editable .[dev]
	.venv-lock/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-peers .venv-fit-peers .cache
