#!/usr/bin/env bash
# One whole job and the tests without Spark, with the lowest versions that pyproject.toml admits.
# usage: bash scripts/lowest.sh
#
# It makes .venv-lowest anew, which takes some minutes; CI does not run it. When it fails, raise the
# lower bound in pyproject.toml to what works.
set -euo pipefail
. "$(dirname "$0")/setup.sh"

python - > .venv-lowest.txt <<'PYTHON'
import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
groups = [project["dependencies"], *(project["optional-dependencies"][g] for g in ("iceberg",))]
for requirement in (one for group in groups for one in group):
    found = re.match(r"([\w.-]+(?:\[[\w,.-]+\])?)\s*(?:>=|==)\s*([\w.]+)", requirement)
    name, version = found.groups()
    print(f"{name.split('[')[0]}=={version}")
PYTHON
rm -rf .venv-lowest
python3 -m venv .venv-lowest
.venv-lowest/bin/pip install -q --use-pep517 --disable-pip-version-check -c .venv-lowest.txt \
    ".[iceberg]" pytest hypothesis pytrec-eval-terrier
lowest="$PWD/.venv-lowest/bin"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$lowest/python" - "$work" <<'PYTHON'
import random
import sys
from pathlib import Path

chance, lines = random.Random(7), ["user,item,rating,timestamp"]
for _ in range(900):
    user, item = chance.randrange(30), chance.randrange(40)
    lines.append(f"u{user:03},i{item:03},{5 if (user + item) % 2 == 0 else 2},100")
Path(sys.argv[1], "ratings.csv").write_text("\n".join(lines) + "\n")
Path(sys.argv[1], "c.yaml").write_text(
    "root: out\n"
    "input: {path: ratings.csv, options: {header: true}, columns: {user: user, item: item, "
    "rating: rating, timestamp: timestamp}}\n"
    "training: {epochs: 4, no_components: 8, threads: 1}\n"
    "gates: {min_to_popularity: null, min_full_lists: null}\n"
    "spark: {spark.driver.memory: 1g, spark.ui.enabled: false}\n"
)
PYTHON
cd "$work"
PATH="$lowest:$PATH" "$lowest/recsys" run --config c.yaml --run-id lowest
PATH="$lowest:$PATH" "$lowest/recsys" run --config c.yaml --run-id lowest-iceberg \
    --set root=out2 --set publishing.format=iceberg
cd - > /dev/null
"$lowest/python" -m pytest -q tests/test_topk.py tests/test_config.py tests/test_metrics.py \
    tests/test_early_stopping.py tests/test_publishing.py -k "not spark"
echo "the lowest versions work:"
cat .venv-lowest.txt
