# Every target calls a script or a tool; `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help setup format lint types layers test quick coverage docs demo wheel lowest torture fuzz benchmark

help: ## List the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## Install what is missing (Java, a compiler, .venv)
	bash -c '. scripts/setup.sh'

format: ## Format the code, and mend what can be mended
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

lint: ## Check style and docstrings
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: ## Check types
	.venv/bin/mypy

layers: ## Check that rooms import only what is below them
	.venv/bin/lint-imports --no-cache

test: ## Run everything that CI runs
	bash scripts/test.sh

quick: ## Run the tests that need no Spark
	bash scripts/test.sh quick

coverage: ## Run all tests, measured, against the floor
	bash scripts/test.sh coverage

docs: ## Build the documentation
	bash scripts/docs.sh

demo: ## Run the whole job on real grocery baskets
	bash scripts/demo.sh

wheel: ## Build the wheel into dist/
	.venv/bin/pip wheel --no-deps --disable-pip-version-check -w dist .

lowest: ## Run jobs and quick tests with the lowest versions (minutes)
	bash scripts/lowest.sh

torture: ## Kill runs at every step, beside readers and rivals (long)
	.venv/bin/python scripts/torture.py

fuzz: ## Feed hostile values (long)
	.venv/bin/python scripts/fuzz.py

benchmark: ## Compare the scoring kernel with others
	.venv/bin/python scripts/benchmark.py kernel
