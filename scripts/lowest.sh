#!/usr/bin/env bash
# Whole jobs, as Parquet and as Iceberg tables, and the quick tests, with the lowest versions that
# pyproject.toml admits.
# usage: bash scripts/lowest.sh
#
# It makes .venv-lowest anew, which takes minutes and needs the package index; so CI does not run it.
# What passed is written to scripts/lowest.txt, and a test compares that with the bounds in
# pyproject.toml: whoever changes a bound runs this. When it fails, raise the bound to what works.
set -euo pipefail
. "$(dirname "$0")/setup.sh"

rm -rf .venv-lowest
python3 -m venv .venv-lowest
lowest="$PWD/.venv-lowest/bin" found="$PWD/.venv-lowest/found.txt"
install=("$lowest/pip" install -q --use-pep517 --disable-pip-version-check)
"${install[@]}" uv # only finds the versions: pip has already built two of these packages for .venv
"$lowest/uv" pip compile -q --no-header --no-annotate --resolution lowest-direct \
    --python "$lowest/python" --extra iceberg pyproject.toml > "$found"
"${install[@]}" --no-deps -r "$found" .
"${install[@]}" -c <(grep -iE '^(pytest|hypothesis|pytrec_eval-terrier)==' scripts/constraints.txt) \
    pytest hypothesis pytrec-eval-terrier
"$lowest/pip" check --disable-pip-version-check

export PATH="$lowest:$PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python - > "$work/ratings.csv" <<'PYTHON'
import random

chance = random.Random(7)
print("user,item,rating,timestamp")
for _ in range(900):
    user, item = chance.randrange(30), chance.randrange(40)
    print(f"u{user:03},i{item:03},{5 if (user + item) % 2 == 0 else 2},100")
PYTHON
cat > "$work/c.yaml" <<'YAML'
input:
  path: ratings.csv
  options: {header: true}
  columns: {user: user, item: item, rating: rating, timestamp: timestamp}
training: {epochs: 4, no_components: 8, threads: 1}
gates: {min_to_popularity: null, min_full_lists: null}
spark: {spark.driver.memory: 1g, spark.ui.enabled: false}
YAML
# From another directory, so that the installed package runs and not the checkout.
for format in parquet iceberg; do
    (cd "$work" && recsys run --config c.yaml --run-id lowest --set "root=$format" --set "publishing.format=$format")
done
python -m pytest -q -p no:cacheprovider -m "not spark and not process" \
    tests/test_{build,cohorts,config,early_stopping,local,matrices,metrics,model,publishing,topk,training}.py
cp "$found" scripts/lowest.txt
echo "the lowest versions work; they are in scripts/lowest.txt"
