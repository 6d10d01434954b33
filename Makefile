# make demo       own environment (core, no torch), then `lumbarseg demo`
# make test-core  own environment (core, no torch, and pytest), then the tests that it can run
# make test-lowest the same with the lowest versions that pyproject.toml allows
# make test       own environment (train and dev), then all tests
# make test-serve MONAI Label's own environment, then the tests that need a real server
# make test-page  the browser page in headless Chromium; tests are skipped without npm, a network or Chromium
# make docs      the documentation site, built strictly into site/
# make release-check  sdist and wheel in dist/, checked; linted: workflow, container file, CITATION.cff
# make lint       formatter, linter, types, spelling
# make benchmark  accuracy on real exams, names and speed: the results in README, model card and failures (25 minutes)
# make model      a model by the recipe of docs/model.md, from no weights (a day on two cores)
# make clean      removes the environments and all other outputs
#
# make shows every command that it runs.

PYTHON ?= python3
REAL ?= ../shared/real
DATA ?= data
SHAPES ?= ../shared/shapes/vertebrae
RUN ?= runs/model
# of make model: steps of its first run (2 a second on one core, 3.5 on two), number of phantoms of each kind, exams of each
# set (default: all), the model that completes labels, and more options of lumbarseg train
STEPS ?= 60000
COUNT ?= 500
EXAMS ?=
TEACHER ?= $(RUN)/first.onnx
TRAIN_OPTIONS ?=
SUDIRMAN := Sudirman et al., Lumbar Spine MRI Dataset, Mendeley Data k57fr854j2 (2019), polygons of k3b363f3vz
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

# The recipe of a model, from no weights at all, in one go and within a day on two cores. A first run trains on phantoms and
# annotated exams; it fills what the annotators left open and labels spider_mid; two runs go on from it with these labels;
# the model is the mean of both. Repeated, make goes on where it stopped. A miniature of minutes, which makes no useful model:
# make model STEPS=30 COUNT=3 EXAMS=5 TEACHER=shipped TRAIN_OPTIONS="--batch-size 2 --crop-size 96" RUN=runs/small DATA=data/small
LUMBARSEG = $(TEST)/bin/lumbarseg
SETS = spider_space spider_t2 spider_slices sudirman
SHAPE_PHANTOMS = $(if $(wildcard $(SHAPES)/*),$(DATA)/shapes)
# one source of shapes is left out: benchmarks.phantom_shapes evaluates on it
TRAINING_SHAPES = $(abspath $(filter-out %/vhp_male_remus,$(wildcard $(SHAPES)/*)))
PHANTOMS = $(DATA)/phantoms $(SHAPE_PHANTOMS)
FIRST_WEIGHTS = $(if $(SHAPE_PHANTOMS),0.30 0.20,0.50) 0.20 0.08 0.07 0.15
MORE_WEIGHTS = $(if $(SHAPE_PHANTOMS),0.20 0.15,0.35) 0.20 0.12 0.08 0.10 0.15
MORE_STEPS = $(shell expr $(STEPS) / 3)
SOURCE = --licence "CC BY 4.0" --citation
# a run that has begun continues: $(call start,RUN,WEIGHTS)
start = -o $(RUN)/$(1) $(if $(wildcard $(RUN)/$(1)/checkpoint.pt),--resume,--init $(2))
TRAIN = $(LUMBARSEG) train --preset shipped $(TRAIN_OPTIONS)
MORE = $(TRAIN) $(PHANTOMS) $(SETS:%=$(DATA)/completed/%) $(DATA)/completed/spider_mid --steps $(MORE_STEPS) \
	--learning-rate 5e-4 --sampling-weights $(MORE_WEIGHTS)

model: $(RUN)/model.onnx
	$(LUMBARSEG) info $<
	@echo "evaluate it with: $(TEST)/bin/python -m benchmarks.accuracy --model $< -o $(RUN)/accuracy.json"

$(DATA)/phantoms.stamp: | $(TEST)/package.stamp
	$(LUMBARSEG) phantom $(DATA)/phantoms -n $(COUNT) --seed 4
	$(if $(SHAPE_PHANTOMS),mkdir -p $(DATA)/sources && cp -r $(TRAINING_SHAPES) $(DATA)/sources)
	$(if $(SHAPE_PHANTOMS),$(LUMBARSEG) phantom $(SHAPE_PHANTOMS) -n $(COUNT) --seed 5 --shapes $(DATA)/sources)
	@touch $@

$(DATA)/open.stamp: | $(TEST)/package.stamp
	$(TEST)/bin/python -m benchmarks.training_sets $(REAL) $(DATA)/raw $(EXAMS:%=--limit %)
	for set in $(filter spider%,$(SETS)); do $(LUMBARSEG) import folder $(DATA)/raw/$$set $(DATA)/open/$$set --table $(DATA)/raw/$$set/labels.json $(SOURCE) "$(SPIDER)" || exit 1; done
	$(LUMBARSEG) import folder $(DATA)/raw/sudirman $(DATA)/open/sudirman --table $(DATA)/raw/sudirman/labels.json $(SOURCE) "$(SUDIRMAN)"
	@touch $@

$(RUN)/first.onnx: $(DATA)/phantoms.stamp $(DATA)/open.stamp
	$(TRAIN) $(PHANTOMS) $(SETS:%=$(DATA)/open/%) $(call start,first,none) --steps $(STEPS) --sampling-weights $(FIRST_WEIGHTS)
	$(LUMBARSEG) export --last $(RUN)/first -o $@

# exit code 3 of pseudo-label: there are exams that a person should review
$(DATA)/completed.stamp: $(RUN)/first.onnx
	for set in $(SETS); do $(LUMBARSEG) pseudo-label $(TEACHER) $(DATA)/open/$$set -o $(DATA)/completed/$$set || test $$? -eq 3 || exit 1; done
	$(LUMBARSEG) pseudo-label $(TEACHER) $(DATA)/raw/spider_mid -o $(DATA)/completed/spider_mid --patient "^[0-9]+" $(SOURCE) "$(SPIDER)" || test $$? -eq 3
	@touch $@

$(RUN)/model.onnx: $(DATA)/completed.stamp
	$(MORE) $(call start,second,$(RUN)/first/checkpoint.pt) --seed 2
	$(MORE) $(call start,third,$(RUN)/first/checkpoint.pt) --seed 3
	$(TEST)/bin/python -m benchmarks.card_facts --command "make model STEPS=$(STEPS) COUNT=$(COUNT) EXAMS=$(EXAMS) TEACHER=$(TEACHER) SHAPES=$(SHAPES) TRAIN_OPTIONS='$(TRAIN_OPTIONS)'" \
		--runs $(RUN)/first $(RUN)/second $(RUN)/third --datasets $(PHANTOMS) $(SETS:%=$(DATA)/completed/%) $(DATA)/completed/spider_mid > $(RUN)/card.json
	$(LUMBARSEG) export --last $(RUN)/second $(RUN)/third -o $@ --about $(RUN)/card.json

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
