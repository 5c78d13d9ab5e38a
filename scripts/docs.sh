#!/usr/bin/env bash
# The documentation: writes its generated parts and builds the site into build/docs.
# usage: bash scripts/docs.sh [options of sphinx-build]
set -euo pipefail
. "$(dirname "$0")/setup.sh"

python scripts/generate_docs.py
python -m sphinx -W --keep-going -n -q -b html -d build/doctrees "$@" docs build/docs
echo "file://$PWD/build/docs/index.html"
