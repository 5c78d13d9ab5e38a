#!/usr/bin/env bash
# The whole job on The Complete Journey (a year of real grocery baskets), from nothing.
# usage: bash scripts/demo.sh
set -euo pipefail
. "$(dirname "$0")/setup.sh"

[ -e data/completejourney/demographics.parquet ] || python scripts/completejourney.py data/completejourney
run_id="demo-$(date -u +%Y%m%dt%H%M%S)"
recsys run --config conf/demo.yaml --run-id "$run_id"
