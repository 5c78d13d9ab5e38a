"""The Dockerfile names what is there, and the script that containers begin with runs commands.

Docker cannot run here, so the images themselves are not built.
"""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

DOCKERFILE = (ROOT / "docker/Dockerfile").read_text().replace("\\\n", " ")
INSTRUCTIONS = [line.split(None, 1) for line in DOCKERFILE.splitlines() if line.strip("# ")]


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def test_what_the_dockerfile_copies_is_there_and_stages_follow_one_another() -> None:
    stages = [re.fullmatch(r"(\S+) AS (\S+)", one) for one in arguments("FROM")]
    names = [found[2] for found in stages if found]
    assert names == ["executor", "build", "driver"]
    bases = [found[1] for found in stages if found]
    assert bases == ["python:3.11-slim-bookworm", "executor", "executor"]
    for copied in arguments("COPY"):
        *options, source, _ = copied.split()
        if f"--from={names[1]}" not in options:
            assert (ROOT / source).exists(), copied


def test_executors_get_what_the_kernel_imports_and_drivers_extras_that_exist() -> None:
    [executor, build] = [one for one in arguments("RUN") if "pip install" in one]
    assert executor.split("constraints.txt ")[-1].split() == [
        "numpy",
        "pandas",
        "pyarrow",
        "pyspark",
    ]
    wanted = re.search(r"/src\[(.*)\]", build)
    assert wanted is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(wanted[1].split(",")) <= project["optional-dependencies"].keys()


@pytest.fixture
def started(tmp_path: Path) -> dict[str, str]:
    """Give the variables of a container whose tini and java say what they are told."""
    for name, program in (("tini", 'shift 2; exec "$@"'), ("java", "printf '%s\\n' \"$@\"")):
        place = tmp_path / "bin" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"#!/bin/sh\n{program}\n")
        place.chmod(0o755)
    return {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "JAVA_HOME": str(tmp_path),
        "SPARK_HOME": "/opt/spark",
        "SPARK_EXECUTOR_MEMORY": "2g",
        "SPARK_DRIVER_URL": "spark://driver",
        "SPARK_EXECUTOR_ID": "7",
        "SPARK_EXECUTOR_CORES": "2",
        "SPARK_APPLICATION_ID": "app",
        "SPARK_EXECUTOR_POD_IP": "10.0.0.1",
        "SPARK_RESOURCE_PROFILE_ID": "0",
        "SPARK_EXECUTOR_POD_NAME": "pod",
        **{f"SPARK_JAVA_OPT_{n}": f"-Dx={n}" for n in range(11)},
    }


def said(variables: dict[str, str], *command: str) -> list[str]:
    script = str(ROOT / "docker/entrypoint.sh")
    ran = subprocess.run(
        ["bash", script, *command], env=variables, capture_output=True, text=True, check=True
    )
    return ran.stdout.splitlines()


def test_a_container_runs_the_command_that_it_is_given(started: dict[str, str]) -> None:
    assert said(started, "echo", "a b", "*") == ["a b *"]


def test_an_executor_gets_spark_s_options_in_their_order(started: dict[str, str]) -> None:
    found = said(started, "executor")
    assert found[:11] == [f"-Dx={n}" for n in range(11)]
    assert found[11:15] == ["-Xms2g", "-Xmx2g", "-cp", "/opt/spark/conf:/opt/spark/jars/*"]
    assert found[15].endswith("k8s.KubernetesExecutorBackend")
    assert found[-4:] == ["--resourceProfileId", "0", "--podName", "pod"]
