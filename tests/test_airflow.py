"""The DAG of docs/how-to/schedule.md, loaded by a real Airflow in an environment of its own."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_docs import blocks, parse

AIRFLOW = ROOT / ".venv-airflow" / "bin" / "python"

LOAD = """
import json, sys
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(dag_folder=sys.argv[1])
[dag] = bag.dags.values()
[task] = dag.tasks
filled = task.render_template(task.bash_command, json.loads(sys.argv[2]))
about = {"errors": bag.import_errors, "dag": dag.dag_id, "retries": task.retries, "command": filled}
print(json.dumps(about))
"""


def test_a_real_airflow_loads_the_dag_and_fills_in_a_command_that_parses(tmp_path: Path) -> None:
    if not AIRFLOW.exists():
        pytest.skip("there is no .venv-airflow: bash scripts/airflow.sh makes it")
    [block] = [block for block in blocks("python") if "airflow" in block.code]
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "recommendations.py").write_text(block.code)
    given = {"ds": "2026-11-24", "run_id": "scheduled__2026-11-24T02:15:00+00:00"}
    ran = subprocess.run(
        [str(AIRFLOW), "-c", LOAD, str(tmp_path / "dags"), json.dumps(given)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["errors"] == {}
    assert (found["dag"], found["retries"]) == ("recommendations", 2)
    assert found["command"].endswith("--run-id scheduled__2026-11-24T02:15:00+00:00")
    parse(found["command"])
