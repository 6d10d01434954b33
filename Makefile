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

model: $(TEST)/package.stamp
	$(TEST)/bin/lumbarseg phantom $(DATA)/phantoms -n 900 --seed 4
	test -d $(DATA)/spider_space || $(TEST)/bin/lumbarseg import folder $(REAL)/spider_space/train $(DATA)/spider_space --table benchmarks/label_tables/spider_space.json --licence "CC BY 4.0" --citation "$(SPIDER)"
	test -d $(DATA)/spider_t2 || $(TEST)/bin/lumbarseg import folder $(REAL)/spider_t2/train $(DATA)/spider_t2 --table benchmarks/label_tables/spider_t2.json --licence "CC BY 4.0" --citation "$(SPIDER)"
	$(TEST)/bin/lumbarseg train $(DATA)/phantoms $(DATA)/spider_space $(DATA)/spider_t2 -o $(RUN) --preset shipped $(if $(wildcard $(RUN)/checkpoint.pt),--resume)
	$(TEST)/bin/python -m benchmarks.card_facts > $(RUN)/card.json
	$(TEST)/bin/lumbarseg export $(RUN) -o $(RUN)/shipped.onnx --about $(RUN)/card.json
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
