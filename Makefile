# The usual four, and clean. Everything they make is in .venv, .tools, work and results.
.PHONY: setup demo test test-slow test-unit test-pipeline lint clean
PY := .venv/bin/python

setup:
	@scripts/setup.sh
	@scripts/get_nextflow.sh

demo: setup
	scripts/nextflow.sh run . -profile test --outdir results/demo -resume
	@$(PY) scripts/show_demo.py results/demo

test: setup
	$(PY) -m pytest -n 2 --dist loadfile -m "not slow" tests

# Whole runs that take a minute or more each, real clusters and containers where there are any.
test-slow: setup
	@scripts/get_nf_test.sh
	$(PY) -m pytest -n 2 --dist loadfile -m slow tests

test-unit: setup
	$(PY) -m pytest -n 2 --dist loadfile tests/unit

test-pipeline: setup
	$(PY) -m pytest -n 2 --dist loadfile tests/pipeline

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	scripts/nextflow.sh lint main.nf nextflow.config conf workflows subworkflows modules

clean:
	rm -rf work results .nextflow .nextflow.log* .pytest_cache .mypy_cache .ruff_cache build
