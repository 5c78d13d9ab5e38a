#!/usr/bin/env bash
# An Airflow of its own, with which tests/test_airflow.py loads the DAG of docs/how-to/schedule.md.
# usage: bash scripts/airflow.sh
#
# It makes .venv-airflow, which takes minutes and needs the package index. Airflow has a hundred
# dependencies and fixes many of them, so it cannot share an environment with this package, and need
# not: it only starts the command.
set -euo pipefail
cd "$(dirname "$0")/.."

version=3.3.2
python3 -m venv .venv-airflow
.venv-airflow/bin/pip install -q --disable-pip-version-check "apache-airflow==$version"
.venv-airflow/bin/pip check --disable-pip-version-check
AIRFLOW_HOME=$PWD/.venv-airflow/home .venv-airflow/bin/airflow version
