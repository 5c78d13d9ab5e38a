"""What is said of a Spark that cannot start: in one line, before its JVM is started."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyspark
import pytest

from recsys.errors import ConfigError, OutputError
from recsys.flows.execution import QUERY_LOGGERS
from recsys.runtime.disks import check_local_dirs
from recsys.runtime.launch import check_java, check_settings, not_started
from tests.conftest import small_ratings
from tests.mounts import Mount, fill
from tests.test_command_line import BIN, ENV, command


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        (
            "driver.memory",
            1024,
            r"found '1024' \(a number alone counts bytes\), expected a whole n",
        ),
        (
            "driver.memory",
            "1024",
            r"found '1024' \(a number alone counts bytes\), expected a whole",
        ),
        (
            "driver.memory",
            "4 GB",
            "found '4 GB', expected a whole number with a unit, such as 4g or",
        ),
        ("driver.memory", "4gb", "found '4gb', expected a whole number"),  # Java knows 4g alone
        ("driver.memory", "much", "found 'much', expected a whole number"),
        ("driver.memory", "1.5g", "found '1.5g', expected a whole number"),
        ("driver.memory", "-1g", "found '-1g', expected a whole number"),
        ("driver.memory", True, "found 'True', expected a whole number"),
        ("driver.memory", "449m", "found '449m', expected at least 450m"),
        ("executor.memory", 2048, "found '2048', expected a whole number with a unit"),
        ("executor.memory", "100m", "found '100m', expected at least 450m"),
        ("executor.memoryOverhead", "1 g", "found '1 g', expected a whole number with a unit"),
        ("executor.pyspark.memory", "x", "found 'x', expected .* such as 512m or 1g"),
        ("driver.maxResultSize", "2", "found '2', expected a whole number with a unit"),
        ("memory.offHeap.size", "", "found '', expected"),
        ("master", "here", r"found 'here', expected local\[\*\], local\[N\], yarn, spark://"),
    ],
)
def test_a_setting_that_spark_would_refuse_or_take_for_another_is_refused(
    key: str, value: object, told: str
) -> None:
    with pytest.raises(ConfigError, match=f"^spark.{key}: {told}"):
        check_settings({f"spark.{key}": value})


def test_all_wrong_sizes_are_told_at_once_and_right_ones_pass() -> None:
    with pytest.raises(ConfigError, match=r"spark\.driver\.memory: .*; spark\.executor\.memory: "):
        check_settings({"spark.executor.memory": 1, "spark.driver.memory": 1})
    check_settings(
        {
            "spark.driver.memory": "450M",
            "spark.executor.memory": "4gb",
            "spark.driver.maxResultSize": 0,  # no limit
            "spark.executor.memoryOverhead": "512k",
            "spark.sql.autoBroadcastJoinThreshold": -1,  # a number alone is right there
            "spark.master": "k8s://https://cluster",
        }
    )


Java = Callable[..., None]


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Java:
    """Put something in the place of Java."""

    def make(script: str) -> None:
        path = tmp_path / "jdk" / "bin" / "java"
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))

    monkeypatch.delenv("SPARK_HOME", raising=False)
    return make


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("1.8.0_292", "is Java 8, expected 17 or newer"),
        ("11.0.2", "is Java 11, expected 17 or newer"),
    ],
)
def test_an_old_java_is_refused(java: Java, version: str, told: str) -> None:
    # Java 8 does not know modules.
    java(
        'for a in $*; do case $a in --add*) echo "Unrecognized option: $a" >&2; exit 1; esac; done'
        f"\necho 'openjdk version \"{version}\"' >&2"
    )
    with pytest.raises(ConfigError, match=rf"^JAVA_HOME is '.*jdk': .*bin/java {told}; install"):
        check_java({})


def test_a_java_without_what_spark_needs_is_refused(java: Java) -> None:
    java("echo 'java.lang.module.FindException: Module jdk.incubator.vector not found' >&2; exit 1")
    with pytest.raises(
        ConfigError, match=r"has no module jdk\.incubator\.vector, which Spark needs"
    ):
        check_java({})


def test_what_is_no_java_is_refused(java: Java) -> None:
    java("echo 'I make coffee' >&2")
    with pytest.raises(ConfigError, match="is no Java that works: I make coffee; install Java 17"):
        check_java({})


def test_a_java_home_that_points_nowhere_and_no_java_at_all_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SPARK_HOME", raising=False)
    monkeypatch.setenv("JAVA_HOME", "/nope")
    with pytest.raises(
        ConfigError, match=r"^JAVA_HOME is '/nope': /nope/bin/java cannot be run: No"
    ):
        check_java({})
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"^JAVA_HOME is not set: java cannot be run: No such"):
        check_java({})


def test_a_spark_home_that_is_none_or_of_another_version_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"^SPARK_HOME: found '.*', which has no bin/spark-submit"
    ):
        check_java({})
    for name in ("bin/spark-submit", "jars/spark-core_2.13-3.5.1.jar"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch(mode=0o755)
    told = rf"found Spark 3\.5\.1 in '.*', and PySpark is {pyspark.__version__}; unset SPARK_HOME"
    with pytest.raises(ConfigError, match=told):
        check_java({})
    monkeypatch.setenv("SPARK_HOME", str(Path(pyspark.__file__).parent))
    check_java({})


def test_a_heap_that_this_machine_cannot_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_HOME", raising=False)
    with pytest.raises(
        ConfigError, match=r"^spark\.driver\.memory: Java cannot start with 900000g: "
    ):
        check_java({"spark.driver.memory": "900000g"})
    check_java({"spark.driver.memory": "1g"})


def test_options_that_java_does_not_know_are_named() -> None:
    told = r"^spark\.driver\.extraJavaOptions: Java cannot start with '-Xwhat': Unrecognized option"
    with pytest.raises(ConfigError, match=told):
        raise not_started({"spark.driver.extraJavaOptions": "-Xwhat"})
    with pytest.raises(ConfigError, match=r"ended before it answered; what it said is above"):
        raise not_started({})


def test_a_local_directory_that_cannot_be_written_is_refused(
    tmp_path: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPARK_LOCAL_DIRS", raising=False)
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigError, match=r"^spark\.local\.dir: Spark cannot write in .*/file/x: Not"
    ):
        check_local_dirs({"spark.local.dir": f"{tmp_path},{tmp_path}/file/x"})
    full = mount("size=128k")
    fill(full)
    (full / "one").mkdir()
    with pytest.raises(
        OutputError, match=rf"^spark\.local\.dir: Spark cannot write in {full}: No s"
    ):
        check_local_dirs({"spark.local.dir": str(full)})
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(full))  # which wins over the setting
    with pytest.raises(
        OutputError, match=rf"^SPARK_LOCAL_DIRS: Spark cannot write in {full}: No sp"
    ):
        check_local_dirs({"spark.local.dir": str(tmp_path)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "file"]


def test_pyspark_has_no_other_loggers_of_failed_queries_than_those_that_are_silenced() -> None:
    import re

    errors = (Path(pyspark.__file__).parent / "errors/exceptions").glob("*.py")
    found = {n for p in errors for n in re.findall(r'getLogger\("(\w+)"\)', p.read_text())}
    assert found == set(QUERY_LOGGERS)


@pytest.mark.parametrize(
    ("settings", "environment", "status", "told"),
    [
        ([], {"JAVA_HOME": "/nope"}, 2, "JAVA_HOME is '/nope': "),
        (["spark.spark.driver.memory=1024"], {}, 2, "spark.driver.memory: found '1024' "),
        (["cohort.users.where=nope > 1"], {}, 2, "cohort.users.where: "),
    ],
)
def test_a_command_says_it_in_one_line(
    tmp_path: Path,
    ratings_csv: Any,
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
    environment: dict[str, str],
    status: int,
    told: str,
) -> None:
    ratings = ratings_csv(small_ratings())
    config = tmp_path / "c.yaml"
    config.write_text(
        f"root: {tmp_path / 'out'}\n"
        f"input: {{path: {ratings}, options: {{header: true}}, "
        "columns: {user: user, item: item, rating: rating, timestamp: timestamp}}\n"
        f"cohort: {{users: {{path: {ratings}, options: {{header: true}}, column: user}}}}\n"
        "spark: {spark.master: 'local[1]', spark.driver.memory: 1g, spark.ui.enabled: false}\n"
    )
    sets = [part for one in settings for part in ("--set", one)]
    for name, value in environment.items():
        monkeypatch.setitem(ENV, name, value)
    ran = command(BIN / "recsys", "run", "--config", config, *sets, cwd=tmp_path)
    assert ran.returncode == status, ran.stderr
    *before, last = ran.stderr.splitlines()
    assert last.startswith(f"recsys: error: {told}")
    assert len(last) < 500  # of which Spark says most
    assert all(" INFO " in line or line.startswith("WARNING: Using incubator") for line in before)
