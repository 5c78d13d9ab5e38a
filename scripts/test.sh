#!/usr/bin/env bash
# Everything that must hold: style, types, layers, tests.
# usage: bash scripts/test.sh [options of pytest]
set -euo pipefail
. "$(dirname "$0")/setup.sh"

ruff check .
ruff format --check .
mypy
lint-imports --no-cache | tail -n 12
python -m pytest "$@"
