# make demo       own environment (core, no torch), then `lumbarseg demo`
# make test-core  own environment (core, no torch, and pytest), then the tests that it can run
# make test-lowest the same with the lowest versions that pyproject.toml allows
# make test       own environment (train and dev), then all tests
# make test-serve MONAI Label's own environment, then the tests that need a real server
# make test-page  the browser page in headless Chromium; tests are skipped without npm, a network or Chromium
# make docs      the documentation site, built strictly into site/
# make release-check  sdist and wheel in dist/, checked; linted: workflow, container file, CITATION.cff
# make lint       formatter, linter, types, spelling
# make benchmark  accuracy on real exams, names and speed: the results in README, model card and failures
# make model      the shipped model, by its recipe (hours)
# make clean      removes the environments and all other outputs
#
# make shows every command that it runs.

PYTHON ?= python3
REAL ?= ../shared/real
DATA ?= data
SHAPES ?= ../shared/shapes/vertebrae
PREVIOUS ?= src/lumbarseg/inference/shipped.onnx
RUN ?= runs/shipped
SPIDER := SPIDER, van der Graaf et al., Sci Data 11:264 (2024), Zenodo 10159290
DEMO := .venv-demo
CORE := .venv-core
TEST := .venv-test
SERVE := .venv-serve
DOCS := .venv-docs
LOWEST := .venv-lowest
RELEASE := .venv-release
OUT ?= out/demo

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-core test-lowest test-page test-serve docs lint release-check benchmark model clean
.DELETE_ON_ERROR:

demo: $(DEMO)/package.stamp
	$(DEMO)/bin/lumbarseg demo -o $(OUT)

test-core: $(CORE)/package.stamp
	$(CORE)/bin/python -m pytest -m "not slow" $(ARGS)

test-lowest: $(LOWEST)/package.stamp
	$(LOWEST)/bin/python -m pytest -m "not slow" $(ARGS)

test: $(TEST)/package.stamp
	$(TEST)/bin/python -m pytest $(ARGS)

test-page: $(TEST)/package.stamp
	LUMBARSEG_PAGE=1 $(TEST)/bin/python -m pytest tests/packaging/test_browser_page.py tests/packaging/test_page_modules.py

test-serve: $(SERVE)/tools.stamp
	PYTHONPATH=src $(SERVE)/bin/python -m pytest tests/server $(ARGS)

docs: $(DOCS)/package.stamp
	$(DOCS)/bin/mkdocs build --strict

release-check: $(RELEASE)/tools.stamp
	rm -rf dist
	$(RELEASE)/bin/python -m build
	$(RELEASE)/bin/twine check --strict dist/*
	$(RELEASE)/bin/actionlint
	$(RELEASE)/bin/hadolint containers/Dockerfile
	$(RELEASE)/bin/cffconvert --validate

lint: $(TEST)/package.stamp
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/ruff check .
	$(TEST)/bin/mypy
	$(TEST)/bin/codespell src tests benchmarks docs scripts slicer README.md CHANGELOG.md CONTRIBUTING.md

benchmark: $(TEST)/package.stamp
	$(TEST)/bin/python -m benchmarks.accuracy --real $(REAL)
	$(TEST)/bin/python -m benchmarks.level_names --real $(REAL)
	$(TEST)/bin/python -m benchmarks.slices --real $(REAL)
	$(TEST)/bin/python -m benchmarks.agreement --real $(REAL)
	$(TEST)/bin/python -m benchmarks.measurements --real $(REAL)
	$(TEST)/bin/python -m benchmarks.speed
	$(TEST)/bin/python -m benchmarks.gallery --real $(REAL)
	$(TEST)/bin/python -m benchmarks.model_card
	$(TEST)/bin/python -m benchmarks.readme

# The model of before (PREVIOUS, an .onnx file), real slices, and phantoms with real vertebrae (SHAPES), in three runs:
# a teacher, whose labels fill what annotators left open, and two runs on those labels; the mean of both and of PREVIOUS.
TRAIN = $(TEST)/bin/lumbarseg train --preset shipped --learning-rate 5e-4
SETS = spider_space spider_t2 spider_slices sudirman
IMPORT = $(TEST)/bin/lumbarseg import folder --licence "CC BY 4.0" --citation "$(SPIDER)"
STEP_SETS = $(DATA)/phantoms $(DATA)/shapes
model: $(TEST)/package.stamp
	$(TEST)/bin/lumbarseg phantom $(DATA)/phantoms -n 500 --seed 4
	$(TEST)/bin/lumbarseg phantom $(DATA)/shapes -n 300 --seed 5 --shapes $(SHAPES)
	$(TEST)/bin/python -m benchmarks.training_sets $(REAL) $(DATA)/raw
	for set in spider_space spider_t2; do mkdir -p $(DATA)/raw/$$set && cp $(REAL)/$$set/train/*.nii.gz $(DATA)/raw/$$set && cp benchmarks/label_tables/$$set.json $(DATA)/raw/$$set/labels.json || exit 1; done
	for set in $(SETS); do $(IMPORT) $(DATA)/raw/$$set $(DATA)/open/$$set --table $(DATA)/raw/$$set/labels.json || exit 1; done
	$(TRAIN) $(STEP_SETS) $(SETS:%=$(DATA)/open/%) -o $(RUN)/teacher --init $(PREVIOUS) --steps 1500 --sampling-weights 0.14 0.22 0.17 0.10 0.14 0.23
	$(TEST)/bin/lumbarseg export --last $(RUN)/teacher -o $(RUN)/teacher.onnx
	$(TEST)/bin/python -m benchmarks.complete_labels $(DATA)/raw $(DATA)/completed --teachers $(PREVIOUS) $(RUN)/teacher.onnx
	for set in $(SETS) spider_mid; do $(IMPORT) $(DATA)/completed/$$set $(DATA)/$$set --table $(DATA)/completed/$$set/labels.json || exit 1; done
	$(TRAIN) $(STEP_SETS) $(SETS:%=$(DATA)/%) $(DATA)/spider_mid -o $(RUN)/first --init $(PREVIOUS) --seed 1 --steps 3500 --sampling-weights 0.13 0.20 0.20 0.10 0.07 0.12 0.18
	$(TRAIN) $(STEP_SETS) $(SETS:%=$(DATA)/%) $(DATA)/spider_mid -o $(RUN)/second --init $(RUN)/first --seed 2 --steps 2400 --sampling-weights 0.16 0.14 0.24 0.13 0.09 0.10 0.14
	for run in first second; do $(TEST)/bin/lumbarseg export --last $(RUN)/$$run -o $(RUN)/$$run.onnx || exit 1; done
	$(TEST)/bin/python -m benchmarks.card_facts > $(RUN)/card.json
	$(TEST)/bin/python -m benchmarks.average_models $(RUN)/shipped.onnx $(PREVIOUS) $(RUN)/first.onnx $(RUN)/second.onnx --about $(RUN)/card.json
	@echo "evaluate it with: $(TEST)/bin/python -m benchmarks.accuracy --model $(RUN)/shipped.onnx -o $(RUN)/accuracy.json"

clean:
	rm -rf $(DEMO) $(CORE) $(TEST) $(SERVE) $(DOCS) $(LOWEST) $(RELEASE) site build dist out .mypy_cache .pytest_cache .ruff_cache .hypothesis

# An environment is created again when its lock or the project file changes; the package is installed again when it changes.

$(DEMO)/lock.stamp: requirements/core.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "lumbarseg needs Python 3.11 or newer; say which: make PYTHON=python3.11")'
	rm -rf $(DEMO)
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/pip install -q -r requirements/core.txt
	@touch $@

$(DEMO)/package.stamp: $(DEMO)/lock.stamp README.md $(shell find src -type f -not -name '*.pyc')
	$(DEMO)/bin/pip install -q --no-deps --force-reinstall .
	@touch $@

$(CORE)/package.stamp: requirements/core.txt requirements/test.txt pyproject.toml
	rm -rf $(CORE)
	$(PYTHON) -m venv $(CORE)
	$(CORE)/bin/pip install -q -r requirements/core.txt $$(grep -E '^(pytest|hypothesis)==' requirements/test.txt)
	$(CORE)/bin/pip install -q --no-deps -e .
	@touch $@

$(LOWEST)/package.stamp: pyproject.toml
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install -q pytest hypothesis \
		$$(sed -n '/^dependencies = \[/,/^\]/s/.*"\(.*\)>=\(.*\)".*/\1==\2/p' pyproject.toml)
	$(LOWEST)/bin/pip install -q --no-deps -e .
	@touch $@

$(TEST)/package.stamp: requirements/test.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "lumbarseg needs Python 3.11 or newer; say which: make PYTHON=python3.11")'
	rm -rf $(TEST)
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/pip install -q $$(grep '^torch==' requirements/test.txt)
	$(TEST)/bin/pip install -q -r requirements/test.txt
	$(TEST)/bin/pip install -q --no-deps -e .
	@touch $@

$(SERVE)/tools.stamp: requirements/serve.txt requirements/test.txt $(TEST)/package.stamp
	$(TEST)/bin/lumbarseg serve --install --env $(SERVE)
	$(SERVE)/bin/pip install -q $$(grep -E '^(pytest|hypothesis|dcmqi)==' requirements/test.txt)
	@touch $@

$(DOCS)/package.stamp: requirements/docs.txt
	rm -rf $(DOCS)
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install -q -r requirements/docs.txt
	@touch $@

$(RELEASE)/tools.stamp: requirements/release.txt
	rm -rf $(RELEASE)
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/pip install -q -r requirements/release.txt
	@touch $@
