# make install   the environment, in .venv
# make demo      from nothing to a speaking portrait; VIDEO=my.mp4 takes your own video
# make test      the whole test suite
# make cluster-test   batches on a real Slurm, and through kubectl, on this machine alone (root, slurm-wlm, munge, kubectl)
# make torture   kill the demo pipeline at 30 points, speak for an hour, train on two hours; hours on two cores
# make torture-quick   the same in minutes
# make lint      every check of the code that is not a test
# make docs      the pages that are made from the code

# The first Python here that is one of those that the wheels are made for.
SUITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for python in python3 python3.12 python3.11; do \
	$$python -c '$(SUITS)' 2>/dev/null && { echo $$python; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VIDEO ?=

.PHONY: install demo test torture torture-quick lint docs format clean

install: $(STAMP)

# venv --without-pip: some distributions leave ensurepip out, and pip can install into another environment.
$(STAMP): pyproject.toml envs/constraints-cpu.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(SUITS)' \
		|| { echo "error: radnerf needs Python 3.11 or 3.12 (make install PYTHON=/path/to/python3.11)" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install -qq \
		--constraint envs/constraints-cpu.txt --editable '.[demo,dev]'
# Only for the weights that it holds: what it depends on (torchvision) would bring another build of torch.
	$(PYTHON) -m pip --python $(BIN)/python install -qq --no-deps lpips==0.1.4
	$(BIN)/python -m compileall -q radnerf cli stages $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/snakemake
	touch $(STAMP)

demo: install
	$(BIN)/radnerf demo $(if $(VIDEO),-- '$(subst ','\'',$(VIDEO))')

test: install
	$(BIN)/python -m pytest

torture: install
	$(BIN)/python -m tests.torture

torture-quick: install
	$(BIN)/python -m tests.torture --kills 6 --speech-minutes 2 --clip-minutes 10

# As root, with Debian's slurm-wlm, munge and kubernetes-client: clusters of this machine alone.
cluster-test: install
	$(PYTHON) -m pip --python $(BIN)/python install -qq --constraint envs/constraints-cpu.txt --editable '.[slurm,kubernetes]'
	RADNERF_CLUSTER_TEST=1 $(BIN)/python -m pytest -s tests/cluster

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile

docs: install
	$(BIN)/python -m cli.settings_page > docs/settings.md
	$(BIN)/python -m cli.commands_page > docs/commands.md

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find radnerf cli stages tests -name __pycache__ -type d -prune -exec rm -rf {} +
