# make demo   a comparison with and without SP on the demo world, a few minutes on 2 cores
# make test   lint, types, tests; with SOLO_LEARN=/path/to/solo-learn its tests too
# make test-oldest PYTHON=python3.10   the core's tests with the oldest packages that it allows
# make docs   the documentation as a site, in build/docs; warnings are errors
# make notebooks   run the notebooks of the documentation, and store their outputs
# make release-check   wheel and sdist, and each extra alone in an environment of its own
# make lightning-features   the table of what a Trainer can do, with SP
# make lightly-examples LIGHTLY=/path/to/lightly   the table of its own example files
# make solo-matrix SOLO_LEARN=/path/to/solo-learn   the table of every method of solo-learn
# make speed   what SP costs, with every table, on a quiet machine; docs/speed.md is made of it
# make framework-matrix   frameworks in environments of their own (.venvs), and one table of them
# make stable-pretraining torchgeo lightly-train onedl-mmpretrain transformers   one of these alone
# make mm-matrix   the table of every algorithm of MMSelfSup and MMPretrain, 3/4 of an hour on a core
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo docs notebooks speed lint test test-all test-oldest release-check solo-matrix mm-matrix lightly-examples lightning-features framework-matrix stable-pretraining torchgeo lightly-train onedl-mmpretrain transformers format clean

export SOLO_LEARN LIGHTLY

demo: $(VENV)/installed
	$(BIN)/sp-bench compare --method simclr --data demo --tasks knn,jigsaw,pair_interaction --limit 500 --side 32 --batch-size 32 --learning-rate 4e-3 --epochs 10 --sp sample_fraction=1 --precision 32-true --seeds 0 1 2 --out runs/demo

speed: $(VENV)/installed
	$(BIN)/sp-bench speed --out runs/speed
	$(BIN)/sp-bench speed --from runs/speed/speed.json --docs docs/speed.md

docs: $(VENV)/installed
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs

notebooks: $(VENV)/installed
	$(BIN)/pytest -q --nbmake --nbmake-timeout=1500 --overwrite docs/notebooks

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -q -n 2 -m "not slow"

test-all: $(VENV)/installed
	$(BIN)/pytest -q -n 2

OLDEST := .venvs/oldest/bin
test-oldest:
	$(PYTHON) -m venv .venvs/oldest
	$(OLDEST)/pip install --quiet uv
	$(OLDEST)/uv pip install --quiet --python $(OLDEST)/python --resolution lowest-direct --editable ".[lightly]" "hypothesis>=6.100" "packaging>=23" "pytest>=8" "pytest-timeout>=2.3" "scikit-learn>=1.4"
	$(OLDEST)/python -m pytest -q -m "not slow" sp_plugin tests/sp_plugin

release-check:
	$(PYTHON) tests/packaging/release_check.py

solo-matrix: $(VENV)/installed
	$(BIN)/pytest -q -n 2 tests/adapters/sp_solo/test_matrix.py

lightning-features: $(VENV)/installed
	$(BIN)/pytest -q -n 2 tests/adapters/sp_lightning/test_trainer_options.py tests/adapters/sp_lightning/test_contract.py

lightly-examples: $(VENV)/installed
	$(BIN)/pytest -q -n 2 tests/adapters/sp_lightly/test_examples.py

mm-matrix: $(VENV)/installed
	$(BIN)/python tests/adapters/sp_mmselfsup/mm_matrix.py --out runs/mm-matrix.md

framework-matrix:
	$(PYTHON) tests/frameworks/matrix.py --out runs/framework-matrix.md

stable-pretraining torchgeo lightly-train onedl-mmpretrain transformers:
	$(PYTHON) tests/frameworks/matrix.py --out runs/$@.md $@

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
