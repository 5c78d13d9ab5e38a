#!/usr/bin/env bash
# An archive with a Python and its packages, for executors or for a driver in YARN's cluster mode.
# usage: bash scripts/package.sh executor ARCHIVE.tar.gz    NumPy, pandas, pyarrow and recsys
#        bash scripts/package.sh driver ARCHIVE.tar.gz      recsys with all that it needs but PySpark
#
# It packs the versions of the Python that runs it: .venv's, or that of the variable PYTHON.
# spark-submit ships it: --archives ARCHIVE.tar.gz#environment, with PYSPARK_PYTHON=./environment/bin/python
set -euo pipefail
folder=$(dirname "$0")
python=${PYTHON:-$folder/../.venv/bin/python}
[ -x "$python" ] || python=python3
exec "$python" "$folder/package.py" "$@"
