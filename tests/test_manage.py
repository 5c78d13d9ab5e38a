"""runs, rollback, clean and verify, as a person or a scheduler calls them: no Spark."""

import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from example_manifests import trained_model

from recsys import read_recommendations
from recsys.columns import NEIGHBOUR_TABLES, IdTypes
from recsys.errors import ConfigError, GateError
from recsys.flows.housekeeping import clean, find_waste
from recsys.flows.manifest import Outcome
from recsys.flows.record import earlier_attempt
from recsys.ingest.manifest import InteractionsManifest, InteractionsTables
from recsys.model.manifest import ModelManifest, ModelTables
from recsys.publishing.manifest import VersionManifest
from recsys.publishing.pointer import Pointers
from recsys.publishing.versions import Unit, place
from recsys.runtime.run import run_lock
from recsys.store.manifest import MANIFEST, WrittenTable
from recsys.store.posix import PosixFiles
from tests.conftest import ROOT
from tests.publications import DAY, UNIT, Judge, publish_version, record_of, stage, tree

Recsys = Callable[..., subprocess.CompletedProcess[str]]
OF_ANY_AGE = ("--min-age", "0")
NEXT = Unit("all", DAY + dt.timedelta(days=1))


def store_model(files: PosixFiles, model_id: str, run_id: str) -> None:
    """Store a model and its interactions without a row."""
    types, empty = IdTypes("string", "string"), WrittenTable(rows=0, files=[])
    name, about = f"{run_id}-i", trained_model(model_id)
    model = ModelManifest(
        **{**dict(about), "interactions_id": name},
        schema_version=ModelManifest.SCHEMA_VERSION,
        run_id=run_id,
        run_date="2026-11-24",
        created_at="2026-11-24T00:00:00+00:00",
        configuration={},
        configuration_hash="",
        fold_in=None,
        versions={},
        timings_seconds={},
        id_types=types,
        n_users=0,
        n_items=0,
        no_components=1,
        tables=ModelTables(items=empty, users=empty, fold_in=empty),
    )
    files.replace(files.uri("models", model_id, MANIFEST), model.to_json())
    interactions = InteractionsManifest(
        schema_version=1,
        interactions_id=name,
        run_id=run_id,
        id_types=types,
        input=about.input,
        counts=about.counts,
        timestamps=None,
        warnings=[],
        tables=InteractionsTables(pairs=empty, rejects=empty),
    )
    files.replace(files.uri("interactions", name, MANIFEST), interactions.to_json())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a root after three runs: r1 and r2 were published, a gate held r3 back."""
    root = tmp_path_factory.mktemp("managed") / "out"
    files = PosixFiles(root)
    for n, run_id in enumerate(("r1", "r2", "r3"), start=1):
        started = dt.datetime(2026, 11, 24, n, tzinfo=dt.UTC)
        record = record_of(files, run_id, started)
        record.begin()
        if run_id == "r3":
            with pytest.raises(GateError):
                publish_version(files, UNIT, run_id, judge=Judge(["coverage"]), model_id="m3")
            record.fail("gate coverage failed", 9)
        else:
            publish_version(files, UNIT, run_id, n, model_id=f"m{n}")
            record.complete(Outcome(model_id=f"m{n}", cohort="all"))
    shutil.rmtree(root / "_staging")  # as a run does at its end
    for name, run_id in (("m1", "r1"), ("m9", "r9")):
        store_model(files, name, run_id)
    return root


@pytest.fixture
def files(made: Path, tmp_path: Path) -> PosixFiles:
    """Give a copy of it."""
    return PosixFiles(shutil.copytree(made, tmp_path / "out"))


@pytest.fixture
def recsys(files: PosixFiles, tmp_path: Path) -> Recsys:
    def execute(*arguments: str, root: str | None = None) -> subprocess.CompletedProcess[str]:
        root = root or str(files.path(files.root))
        return subprocess.run(
            [sys.executable, "-m", "recsys.cli", *arguments, "--set", f"root={root}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return execute


def complaint(ran: subprocess.CompletedProcess[str], status: int) -> str:
    assert ran.returncode == status, ran.stderr
    # The JVM speaks of its own module where a root needs it.
    said = ran.stderr.removeprefix("WARNING: Using incubator modules: jdk.incubator.vector\n")
    assert said.startswith("recsys: error: ")
    assert said.count("\n") == 1
    return said


def uri_of(line: str) -> str:
    """Return the URI in a line of `recsys clean`."""
    found = re.search(r"file:.*?(?=  )", line)
    assert found is not None, line
    return found[0]


def grow_old(files: PosixFiles, uri: str) -> None:
    """Make everything in a directory eight days old."""
    week = time.time() - 8 * 86_400
    for path in [files.path(uri), *files.path(uri).rglob("*")]:
        os.utime(path, (week, week))


def read_held(files: PosixFiles, run_id: str) -> VersionManifest:
    return VersionManifest.from_json(files.read(files.uri("held", run_id, MANIFEST)))


def made_from(files: PosixFiles, run_id: str) -> list[str]:
    """Return the interactions of the model of a published version."""
    content = files.read(place(files, UNIT, run_id, MANIFEST))
    return [VersionManifest.from_json(content).model.interactions_id]


def content(files: PosixFiles) -> dict[str, bytes | None]:
    """Return everything but the directory of locks, which comes and goes."""
    found = tree(files.path(files.root))
    return {name: value for name, value in found.items() if not name.startswith("_locks")}


def test_runs_lists_the_latest_first_with_state_and_what_is_published(
    files: PosixFiles, recsys: Recsys
) -> None:
    ran = recsys("runs")
    assert ran.returncode == 0, ran.stderr
    header, *lines = [line.split() for line in ran.stdout.splitlines()]
    assert header == [
        "run",
        "job",
        "date",
        "cohort",
        "state",
        "started",
        "(UTC)",
        "seconds",
        "exit",
        "published",
        "model",
    ]
    without_seconds = [[*line[:6], *line[7:]] for line in lines]
    started = "run 2026-11-24 all {} 2026-11-24T0{}:00:00"
    assert without_seconds == [
        ["r3", *started.format("failed", 3).split(), "9", "held"],
        ["gate", "coverage", "failed"],
        ["r2", *started.format("complete", 2).split(), "0", "current", "m2"],
        ["r1", *started.format("complete", 1).split(), "0", "kept", "m1"],
    ]
    assert all(float(line[6].replace(",", "")) > 0 for line in lines if line[0] != "gate")
    assert len(recsys("runs", "--limit", "1").stdout.splitlines()) == 3


def test_runs_can_be_filtered_by_day_and_read_by_a_program(recsys: Recsys) -> None:
    found = json.loads(recsys("runs", "--json").stdout)
    assert [(run["run_id"], run["model_id"], run["exit_code"]) for run in found] == [
        ("r3", "", 9),
        ("r2", "m2", 0),
        ("r1", "m1", 0),
    ]
    assert json.loads(recsys("runs", "--json", "--run-date", "2026-11-25").stdout) == []
    assert len(json.loads(recsys("runs", "--json", "--run-date", "2026-11-24").stdout)) == 3


def test_a_run_is_interrupted_if_it_says_running_and_no_process_holds_its_lock(
    files: PosixFiles, recsys: Recsys
) -> None:
    record_of(files, "r4").begin()
    assert re.search(r"^r4 .* interrupted", recsys("runs").stdout, re.M)
    with files.lock(run_lock("r4")):
        assert re.search(r"^r4 .* running", recsys("runs").stdout, re.M)


def test_rollback_says_what_is_current_and_how_to_return(files: PosixFiles, recsys: Recsys) -> None:
    unit = ("--cohort", "all", "--run-date", "2026-11-24")
    ran = recsys("rollback", *unit)
    assert ran.returncode == 0, ran.stderr
    assert "cohort all of 2026-11-24: run r1 is current, published 20" in ran.stdout
    assert "run r2 was; return to it with --to r2" in ran.stdout
    assert read_recommendations(str(files.path(files.root))).run_id == "r1"
    assert "no version before the current one is kept" in complaint(recsys("rollback", *unit), 2)
    assert recsys("rollback", *unit, "--to", "r2").returncode == 0
    assert read_recommendations(str(files.path(files.root))).run_id == "r2"
    # Held back is not published.
    assert "no version r3 is kept" in complaint(recsys("rollback", *unit, "--to", "r3"), 2)


def test_names_that_are_none_and_roots_that_are_not_there_are_refused_in_one_line(
    files: PosixFiles, recsys: Recsys, tmp_path: Path
) -> None:
    before = tree(tmp_path)
    day = ("--run-date", "2026-11-24")
    for cohort in ("../../x", "/etc", "a\nb"):
        told = complaint(recsys("rollback", "--cohort", cohort, *day), 2)
        assert "--cohort: found" in told
    to = ("--to", "../../r1\n")
    assert "no version ../../r1\\n" in complaint(recsys("rollback", "--cohort=all", *day, *to), 2)
    told = complaint(recsys("runs", root="nowhere"), 2)
    assert "expected a directory with runs in it" in told
    told = complaint(recsys("verify", root="s3a://me:hunter2@bucket/x"), 8)
    assert "s3a://me@bucket/x" in told
    assert "hunter2" not in told
    assert tree(tmp_path) == before


def test_verify_is_silent_about_nothing_and_names_what_is_damaged(
    files: PosixFiles, recsys: Recsys
) -> None:
    ran = recsys("verify")
    assert ran.returncode == 0, ran.stderr
    assert [line.split()[0] for line in ran.stdout.splitlines()] == ["ok"] * 6
    path = next(files.path(place(files, UNIT, "r1", "status")).glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    ran = recsys("verify")
    assert "1 damaged or incomplete" in complaint(ran, 11)
    assert f"status/{path.name} has" in ran.stdout
    assert sum(line.startswith("ok ") for line in ran.stdout.splitlines()) == 5


def test_clean_shows_first_and_deletes_only_when_told(files: PosixFiles, recsys: Recsys) -> None:
    for unit, run_id in ((UNIT, "r7"), (NEXT, "r8")):  # killed before the switch, and in staging
        files.move(stage(files, unit, run_id).uri, place(files, unit, run_id))
        stage(files, unit, run_id + "-staged")
    half = files.path(place(files, UNIT)) / "current.json.123.tmp"
    half.touch()
    wanted = {
        files.uri("held", "r3"),
        files.uri("_staging", "r7"),
        files.uri("_staging", "r8"),
        files.uri("_staging", "r7-staged"),
        files.uri("_staging", "r8-staged"),
        place(files, UNIT, "r7"),
        place(files, NEXT, "r8"),
        f"file:{half}",
    }
    before = content(files)
    ran = recsys("clean", *OF_ANY_AGE)
    assert ran.returncode == 0, ran.stderr
    *shown, last = ran.stdout.splitlines()
    assert {uri_of(line) for line in shown} == wanted
    assert re.fullmatch(r"8 to delete, [0-9.]+ KiB; nothing was deleted: say --yes", last)
    assert content(files) == before

    ran = recsys("clean", *OF_ANY_AGE, "--yes")
    assert ran.stdout.splitlines()[-1].startswith("deleted 8 of 8, ")
    assert set(content(files)) < set(before)
    assert not any(files.exists(uri) for uri in wanted)
    assert not files.exists(place(files, NEXT))  # nothing was published of it
    assert recsys("clean").stdout == "nothing to clean\n"
    assert recsys("verify").returncode == 0
    for run_id in ("r1", "r2"):
        assert read_recommendations(str(files.path(files.root)), run_id=run_id).run_id == run_id


def test_clean_leaves_what_a_live_run_stages_writes_and_places(
    files: PosixFiles, recsys: Recsys
) -> None:
    stage(files, UNIT, "r7")
    files.move(stage(files, UNIT, "r8").uri, place(files, UNIT, "r8"))
    writing = files.path(files.uri("runs", "r7", "manifest.json.123.tmp"))
    switching = files.path(place(files, UNIT)) / "current.json.123.tmp"
    writing.parent.mkdir()
    writing.touch()
    switching.touch()
    with files.lock(run_lock("r7")), files.lock("publish-all-2026-11-24"):
        ran = recsys("clean", *OF_ANY_AGE, "--yes")
    assert ran.returncode == 0, ran.stderr
    assert files.uri("_staging", "r7") not in ran.stdout  # nor is it shown
    assert files.exists(files.uri("_staging", "r7", "version"))
    assert files.exists(place(files, UNIT, "r8"))
    assert writing.exists()
    assert switching.exists()
    assert not files.exists(files.uri("held", "r3"))
    assert recsys("clean", "--yes").stdout.splitlines()[-1].startswith("deleted")
    assert not writing.exists()
    assert not switching.exists()
    assert not files.exists(place(files, UNIT, "r8"))


def test_stored_adds_what_no_kept_version_was_made_of_but_nothing_of_a_live_run(
    files: PosixFiles, recsys: Recsys
) -> None:
    for table in NEIGHBOUR_TABLES:
        files.write(files.uri(table, "2026-11-24", "r9", "part-0.parquet"), b"x")
    files.write(files.uri("evaluations", "r9", "metrics", "part-0.parquet"), b"x")
    files.write(files.uri("tunings", "r9", "trials", "part-0.parquet"), b"x")
    old = ("--stored", *OF_ANY_AGE)
    assert "/models/" not in recsys("clean").stdout
    with files.lock(run_lock("r9")):
        shown = recsys("clean", *old).stdout
        assert re.search(r"keep .*B +\d+ seconds  .*/models/m9  run r9 goes on", shown)
        assert "to delete" not in shown.replace("1 to delete", "")  # what a gate held back
    shown = recsys("clean", *old).stdout
    for place_ in (
        files.uri("models", "m9"),
        files.uri("interactions", "r9-i"),
        files.uri("evaluations", "r9"),
        files.uri("tunings", "r9"),
        *(files.uri(table, "2026-11-24", "r9") for table in NEIGHBOUR_TABLES),
    ):
        assert re.search(
            rf"delete .*B +\d+ seconds  {re.escape(place_)}  no version that is kept", shown
        )
    assert re.search(r"keep .*/models/m1  cohort all of 2026-11-24, run r1 was made with", shown)
    assert recsys("clean", *old, "--yes").returncode == 0
    assert files.names(files.uri("models")) == ["m1"]
    assert files.names(files.uri("similar_items")) == []


def test_a_model_that_was_just_trained_stays(files: PosixFiles, recsys: Recsys) -> None:
    shown = recsys("clean", "--stored", "--yes").stdout
    assert re.search(r"keep .*/models/m9  it is younger than 7 days", shown)
    assert files.names(files.uri("models")) == ["m1", "m9"]
    grow_old(files, files.uri("models", "m9"))
    assert re.search(r"8 days  .*/models/m9  ", recsys("clean", "--stored", "--yes").stdout)
    assert files.names(files.uri("models")) == ["m1"]


def test_what_a_gate_held_back_stays_for_a_retry_and_so_does_what_it_was_made_of(
    files: PosixFiles, recsys: Recsys
) -> None:
    held = read_held(files, "r3")
    assert held.model_id == "m3"
    store_model(files, "m3", "r0")
    shown = recsys("clean", "--stored", *OF_ANY_AGE).stdout
    needs = "what a gate held back of run r3 needs it"
    assert re.search(rf"keep .*/models/m3  {needs}", shown)
    shown = recsys("clean", "--yes").stdout
    assert re.search(r"keep .*/held/r3  it is younger than 7 days", shown)
    assert shown.endswith("nothing to clean\n")
    grow_old(files, files.uri("held", "r3"))
    with files.lock(run_lock("r3")):  # a retry judges it again
        assert re.search(r"keep .*/held/r3  run r3 goes on", recsys("clean", "--yes").stdout)
    shown = recsys("clean", "--yes").stdout
    assert re.search(r"delete .* 8 days  .*/held/r3  held back by a gate", shown)
    assert not files.exists(files.uri("held", "r3"))


def test_the_interactions_of_a_kept_version_stay_though_its_model_is_damaged(
    files: PosixFiles, recsys: Recsys
) -> None:
    [name] = made_from(files, "r1")
    files.replace(files.uri("interactions", name, "x"), b"x")
    files.replace(files.uri("models", "m1", MANIFEST), b"{")
    recsys("clean", "--stored", *OF_ANY_AGE, "--yes")
    assert files.names(files.uri("models")) == ["m1"]
    assert name in files.names(files.uri("interactions"))


def test_what_a_run_began_to_use_after_the_listing_is_not_deleted(files: PosixFiles) -> None:
    index = Pointers(files)
    found = find_waste(files, index, stored=True, min_age=0)
    model = files.uri("models", "m9")
    assert model in [one.uri for one in found.waste]
    record_of(files, "r10", model_id="m9").begin()
    with files.lock(run_lock("r10")):
        gone = clean(files, index, found.waste)
    assert model not in [one.uri for one in gone]
    assert files.exists(model)
    assert model in [one.uri for one in clean(files, index, found.waste)]


def test_the_rejects_of_a_run_that_prepares_stay(files: PosixFiles, recsys: Recsys) -> None:
    # They are published before the interactions, whose manifest says which run it is.
    rejects = files.uri("rejects", "r10-0123abcd", "part-0.parquet")
    files.write(rejects, b"x")
    clean_all = ("clean", "--stored", *OF_ANY_AGE, "--yes")
    with files.lock(run_lock("r10")):
        recsys(*clean_all)
    assert files.exists(rejects)
    recsys(*clean_all)
    assert not files.exists(rejects)


def test_the_record_of_a_newer_version_of_recsys_is_not_replaced(files: PosixFiles) -> None:
    uri = files.uri("runs", "r1", MANIFEST)
    newer = files.read(uri).replace(b'"schema_version": 1', b'"schema_version": 2')
    files.replace(uri, newer)
    with pytest.raises(ConfigError, match="schema_version 2, and this version of recsys reads 1"):
        earlier_attempt(files, "r1")
    with pytest.raises(ConfigError, match=r"--run-id: .*, or choose another run id"):
        record_of(files, "r1").finished_before()
    assert files.read(uri) == newer


def test_a_stray_file_where_directories_belong_stops_no_command(
    files: PosixFiles, recsys: Recsys
) -> None:
    for kind in ("models", "interactions", "runs", "held"):
        files.write(files.uri(kind, "x"), b"x")
    shown = recsys("runs").stdout
    assert re.search(r"^x .* unknown", shown, re.MULTILINE)
    assert re.search(r"^r2 ", shown, re.MULTILINE)
    ran = recsys("verify")
    assert "2 damaged or incomplete" in complaint(ran, 11)
    assert re.search(r"models x.*manifest.json: Not a directory", ran.stdout)
    assert sum(line.startswith("ok ") for line in ran.stdout.splitlines()) == 6
    ran = recsys("clean", "--stored", *OF_ANY_AGE)
    assert ran.returncode == 0, ran.stderr
    assert files.uri("models", "x") in {uri_of(line) for line in ran.stdout.splitlines()[:-1]}


def test_what_was_written_after_the_listing_is_not_deleted(files: PosixFiles) -> None:
    index, held = Pointers(files), files.uri("held", "r3")
    grow_old(files, held)
    found = find_waste(files, index).waste
    assert held in [one.uri for one in found]
    files.write(f"{held}/x", b"x")  # another attempt was refused as well
    assert clean(files, index, found) == []
    assert files.exists(held)
