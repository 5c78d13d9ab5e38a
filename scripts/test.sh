#!/usr/bin/env bash
# Everything that must hold: style, types, layers, generated files, tests.
# usage: bash scripts/test.sh            all but the long tests and those of clusters, which CI runs
#        bash scripts/test.sh all        the long ones, too
#        bash scripts/test.sh -k ratings only some tests; they run in one process
#        bash scripts/test.sh quick      the tests that need neither Spark nor processes of their own
#        bash scripts/test.sh cluster    the tests that start clusters, which all others leave out
#        bash scripts/test.sh coverage   all but those, and the share of the code that they run, which
#                                        has a floor in pyproject.toml
set -euo pipefail
. "$(dirname "$0")/setup.sh"
bash scripts/browser.sh
bash scripts/class_archive.sh || echo "test: without an archive of classes JVMs start more slowly" >&2

ruff check .
ruff format --check .
mypy
lint-imports --no-cache | tail -n 12
python scripts/generate_docs.py --check
case ${1:-} in
    quick)
        shift
        python -m pytest -m "not spark and not process and not cluster" "$@"
        ;;
    cluster)
        shift
        python -m pytest -m cluster "$@"
        ;;
    coverage)
        shift
        python -m coverage run -m pytest -m "not cluster" "$@"
        python -m coverage report
        ;;
    "" | all)
        chosen="not cluster and not long"
        [ "${1:-}" = all ] && chosen="not cluster"
        # Side by side: one process has the Spark session, the other runs commands, which wait much.
        others=$(mktemp)
        python -m pytest -m "not spark and $chosen" --durations 40 > "$others" 2>&1 &
        pid=$!
        trap 'kill $pid 2>/dev/null || true; cat "$others"; rm -f "$others"' EXIT
        status=0
        python -m pytest -m "spark and $chosen" --durations 40 -p no:cacheprovider || status=$?
        wait $pid || status=$?
        exit $status
        ;;
    *) python -m pytest -m "not cluster" "$@" ;;
esac
