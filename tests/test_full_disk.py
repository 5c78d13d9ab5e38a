"""A root that is full or cannot be written: status 8 with the path, before anything is read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pyspark.sql import SparkSession

from recsys import read_recommendations
from recsys.cli import main
from recsys.errors import ConflictError, OutputError
from recsys.flows.execution import _exit_code
from recsys.publishing.versions import Unit
from recsys.runtime.hadoop import of_session
from recsys.store.files import LOCKS
from recsys.store.hadoop import HadoopFiles
from recsys.store.posix import PosixFiles
from recsys.store.tables import Store
from tests.conftest import csv_input, small_ratings
from tests.mounts import Mount, fill
from tests.publications import DAY, UNIT, publish_version, record_of, stage

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "disk"  # where `mount` mounts


def full(mount: Mount, root: Path) -> str:
    mount("size=128k")
    fill(root)
    return "No space left on device; free space there (recsys clean shows what nothing needs), or"


def without_inodes(mount: Mount, root: Path) -> str:
    mount("size=1m,nr_inodes=2")
    (root / "filler").touch()
    return "No space left on device; free space there"


def read_only(mount: Mount, root: Path) -> str:
    mount("size=128k,ro")
    user = os.geteuid()
    return f"Read-only file system; check its permissions (this process runs as user id {user})"


def not_a_directory(mount: Mount, root: Path) -> str:
    root.write_text("a file")
    return "Not a directory; check the root"


TROUBLES = [full, without_inodes, read_only, not_a_directory]


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("job", ["run", "score", "evaluate", "similar-items"])
def test_a_command_ends_with_status_8_the_path_and_what_to_do(
    run: Run,
    ratings_csv: Any,
    root: Path,
    mount: Mount,
    trouble: Callable[[Mount, Path], str],
    job: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = trouble(mount, root)
    with pytest.raises(OutputError) as caught:
        run(job, root=root, model_id="m", input=csv_input(ratings_csv(small_ratings())))
    assert _exit_code(caught.value) == 8
    message = str(caught.value)
    assert message.startswith(("cannot write ", "cannot make ", "cannot lock "))
    assert f" {root}/" in message
    assert told in message
    assert not [line for line in caplog.messages if line.endswith(" ...")]  # no step has begun


@pytest.fixture
def published(mount: Mount, root: Path) -> PosixFiles:
    """Give a root with two versions and what a killed run has left, on a small disk."""
    mount("size=2m")
    files = PosixFiles(root)
    for run_id in ("r1", "r2"):
        record_of(files, run_id).begin()
        publish_version(files, UNIT, run_id)
        files.delete(files.uri("_staging"))
    stage(files, Unit("other", DAY), "killed")
    return files


def recsys(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--set", f"root={root}"])


def test_what_only_reads_works_on_a_disk_that_cannot_be_written(
    published: PosixFiles, mount: Mount, root: Path
) -> None:
    mount("size=2m,ro")
    assert read_recommendations(root).run_id == "r2"
    for command in ("runs", "models", "verify", "clean"):
        ran = recsys(root, command)
        assert ran.exit_code == 0, (command, ran.output)
    unit = ("--cohort", "all", "--run-date", DAY.isoformat())
    ran = recsys(root, "rollback", *unit)
    assert ran.exit_code == 8
    assert ran.stderr.startswith(
        f"recsys: error: cannot make {root}/{LOCKS}: Read-only file system"
    )


def test_a_full_disk_can_be_cleaned_and_used_again(published: PosixFiles, root: Path) -> None:
    unit = ("--cohort", "all", "--run-date", DAY.isoformat())
    fill(root)
    ran = recsys(root, "rollback", *unit)
    assert ran.exit_code == 8
    assert f"cannot write {root}/publications/all/2026-11-24/current.json: No space" in ran.stderr
    assert read_recommendations(root).run_id == "r2"
    assert published.names(published.uri(LOCKS)) == []
    ran = recsys(root, "clean", "--yes")
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.splitlines()[-1].startswith("deleted 1 of 1, ")
    assert recsys(root, "rollback", *unit).exit_code == 0
    assert read_recommendations(root).run_id == "r1"


def test_hadoop_s_files_tell_a_lock_that_is_held_from_one_that_cannot_be_made(
    spark: SparkSession, tmp_path: Path
) -> None:
    """On the local file system, where they are not used: HDFS is not on this machine."""
    files = HadoopFiles(of_session(spark), str(tmp_path / "out"))
    with files.lock("one"), pytest.raises(ConflictError, match="exists"), files.lock("one"):
        pass
    (tmp_path / "out" / LOCKS).rmdir()
    told = r"^cannot write file:{}/_locks/one: .*; check root, its space and its permissions"
    (tmp_path / "out" / LOCKS).touch()
    with pytest.raises(OutputError, match=told.format(tmp_path / "out")), files.lock("one"):
        pass
    nobody_writes = HadoopFiles(of_session(spark), "/proc/1")
    with pytest.raises(OutputError, match=told.format("/proc/1")), nobody_writes.lock("one"):
        pass


def test_a_staging_directory_that_cannot_be_made_is_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(spark, str(tmp_path))
    (tmp_path / "_staging").touch()
    told = rf"^cannot (make|delete) {tmp_path}/_staging/r1: Not a directory; check the root"
    with pytest.raises(OutputError, match=told), store.staging("r1"):
        pass
