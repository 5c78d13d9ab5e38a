"""Each file of a published version and of a model damaged: a refusal that names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys import read_recommendations
from recsys.errors import DamageError, ModelError, OutputError
from recsys.flows import manage
from recsys.flows import recommend as recommend_job
from recsys.model.arrays import load_users
from recsys.model.tables import load_model
from recsys.publishing.maintenance import rollback, verify
from recsys.publishing.pointer import Pointers
from recsys.publishing.versions import Unit
from recsys.score.local import LocalModel
from recsys.store.posix import PosixFiles
from recsys.store.tables import Store
from tests.conftest import csv_input, model_folder, run_in, small_ratings, write_csv
from tests.publications import DAY, UNIT, publish_version, tree

OTHER = Unit("vip", DAY)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = [truncate, empty, flip, remove]
Damage = Callable[[Path], None]

# Published versions

TABLE_FILES = [
    f"{table}/part-0000{part}.snappy.parquet"
    for table in ("recommendations", "status")
    for part in (0, 1)
]
VERSION_FILES = [*TABLE_FILES, "manifest.json"]
EXTRA_FILES = [
    f"{table}/{name}"
    for table in ("recommendations", "status")
    for name in ("part-99999.parquet", "notes.txt", "day=1/part-0.parquet")
]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a root with two versions of a cohort, the second current, and one of another."""
    root = tmp_path_factory.mktemp("published") / "out"
    files = PosixFiles(root)
    publish_version(files, UNIT, "r1", 4)
    publish_version(files, UNIT, "r2", 5)
    publish_version(files, OTHER, "r3", 3)
    return root


@pytest.fixture
def files(published: Path, tmp_path: Path) -> PosixFiles:
    """Give a copy of it, to damage."""
    return PosixFiles(shutil.copytree(published, tmp_path / "out"))


def unit_place(files: PosixFiles) -> Path:
    return files.path(files.uri("publications", "all", DAY.isoformat()))


def managed(files: PosixFiles, action: Callable[[manage.Place], None]) -> int:
    root = str(files.path(files.root))
    return manage.execute(action, None, [f"root={root}"], debug=False)


def refused_everywhere(
    files: PosixFiles, named: str, capsys: pytest.CaptureFixture[str], run_id: str
) -> None:
    """Read, verify and return to a run: each names the file, and none changes anything."""
    root = str(files.path(files.root))
    before = tree(files.path(files.root))
    with pytest.raises(DamageError) as caught:
        read_recommendations(root, run_id=run_id)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)

    assert managed(files, manage.verify) == 11
    told = capsys.readouterr()
    damaged = [line for line in told.out.splitlines() if line.startswith("DAMAGED")]
    assert len(damaged) == 1
    assert named in damaged[0]
    assert told.err == "recsys: error: 1 damaged or incomplete; see above\n"
    assert "ok       cohort vip of 2026-11-24, run r3" in told.out

    assert managed(files, lambda place: manage.rollback(place, "all", DAY, None)) == 11
    error = capsys.readouterr().err
    assert error.startswith("recsys: error: ")
    assert error.count("\n") == 1
    assert named in error
    shutil.rmtree(files.path(files.uri("_locks")), ignore_errors=True)
    before = {name: content for name, content in before.items() if not name.startswith("_locks")}
    assert tree(files.path(files.root)) == before
    assert read_recommendations(root, cohort="vip").run_id == "r3"  # no matter of other readers


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", VERSION_FILES)
def test_a_damaged_file_of_a_version_is_refused_by_name(
    files: PosixFiles, name: str, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(unit_place(files) / "r1" / name)
    refused_everywhere(files, f"r1/{name}", capsys, "r1")
    # The other version stays what it was.
    assert read_recommendations(str(files.path(files.root))).run_id == "r2"


@pytest.mark.parametrize("name", EXTRA_FILES)
def test_a_file_too_many_is_refused_by_name(
    files: PosixFiles, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = unit_place(files) / "r1" / name
    path.parent.mkdir(exist_ok=True)
    shutil.copy(unit_place(files) / "r1" / TABLE_FILES[0], path)
    refused_everywhere(files, f"r1/{name}", capsys, "r1")


def test_files_of_another_run_are_refused(files: PosixFiles) -> None:
    for table in ("recommendations", "status"):
        shutil.rmtree(unit_place(files) / "r2" / table)
        shutil.copytree(unit_place(files) / "r1" / table, unit_place(files) / "r2" / table)
    with pytest.raises(DamageError, match=r"status/part-00000\.snappy\.parquet"):
        read_recommendations(str(files.path(files.root)))
    # Nor with the manifest of that run.
    shutil.copy(unit_place(files) / "r1/manifest.json", unit_place(files) / "r2/manifest.json")
    with pytest.raises(DamageError, match=r"r2/manifest\.json is damaged"):
        read_recommendations(str(files.path(files.root)))


@pytest.mark.parametrize("damage", [truncate, empty, flip])
def test_a_damaged_pointer_is_refused_by_name_and_written_anew_by_a_rollback(
    files: PosixFiles, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    pointer = unit_place(files) / "current.json"
    damage(pointer)
    refused_everywhere(files, "2026-11-24/current.json", capsys, "r2")
    assert (
        managed(files, lambda place: manage.clean(place, yes=True, stored=True, min_age_days=0))
        == 11
    )
    restored(files)


def test_a_lost_pointer_is_missed_by_name_and_written_anew_by_a_rollback(
    files: PosixFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    (unit_place(files) / "current.json").unlink()
    root = str(files.path(files.root))
    with pytest.raises(OutputError, match="nothing is published of cohort 'all'"):
        read_recommendations(root)
    for action in (manage.verify, lambda place: manage.rollback(place, "all", DAY, None)):
        assert managed(files, action) == 11
        told = capsys.readouterr()
        assert "2026-11-24/current.json is missing, though there are versions (r1, r2)" in (
            told.out + told.err
        )
    restored(files)


def restored(files: PosixFiles) -> None:
    truncate(unit_place(files) / "r1" / TABLE_FILES[0])
    index = Pointers(files)
    with pytest.raises(DamageError, match=TABLE_FILES[0]):
        rollback(files, index, UNIT, "r1")
    before, now = rollback(files, index, UNIT, "r2")
    assert (before, now.run_id) == (None, "r2")
    assert [version.run_id for version in index.versions(UNIT)] == ["r2"]
    assert len(read_recommendations(str(files.path(files.root))).status) == 5
    assert all(error is None for _, error in verify(files, index))


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF])
def test_no_byte_of_a_pointer_or_a_manifest_can_change_unnoticed(
    files: PosixFiles, mask: int
) -> None:
    root = str(files.path(files.root))
    for path in (unit_place(files) / "current.json", unit_place(files) / "r2/manifest.json"):
        content = path.read_bytes()
        for place in range(mask % 3, len(content), 3):
            changed = bytearray(content)
            changed[place] ^= mask
            path.write_bytes(changed)
            with pytest.raises(DamageError, match=path.name):
                read_recommendations(root)
        path.write_bytes(content)
    assert read_recommendations(root).run_id == "r2"


# Models

MODEL_TABLES = ("items", "users", "fold_in")


@pytest.fixture(scope="module")
def trained(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    source = csv_input(write_csv(folder / "ratings.csv", small_ratings()))
    parts = {"users_per_file": 15}
    return model_folder(run_in(spark, folder / "out", "train", input=source, scoring=parts))


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """Give a copy of the model, in a root of its own."""
    return shutil.copytree(trained, tmp_path / "out" / "models" / trained.name)


def refused_as_model(
    spark: SparkSession, model: Path, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = model.parents[1]
    store = Store(spark, str(root))

    def all_of_it_locally() -> None:
        LocalModel.load(model)
        load_users(model)  # which LocalModel does without

    for load in (
        lambda: load_model(store, store.uri("models", model.name)),
        all_of_it_locally,
    ):
        with pytest.raises(ModelError) as caught:
            load()
        assert caught.value.exit_code == 7
        assert named in str(caught.value)
        assert model.name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert manage.execute(manage.verify, None, [f"root={root}"], debug=False) == 11
    told = capsys.readouterr()
    assert len([line for line in told.out.splitlines() if line.startswith("DAMAGED")]) == 1
    assert named in told.out
    if "users/" not in named:
        assert recommend_job.main(model.name, "i001", None, 3, None, [f"root={root}"]) == 7
        error = capsys.readouterr().err
        assert named in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("table", [*MODEL_TABLES, "manifest.json"])
def test_a_damaged_file_of_a_model_is_refused_by_name(
    spark: SparkSession,
    model: Path,
    table: str,
    damage: Damage,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = sorted((model / table).glob("*.parquet")) or [model / table]
    assert len(paths) == (2 if table == "users" else 1)
    for path in paths:
        content = path.read_bytes()
        damage(path)
        refused_as_model(spark, model, str(path.relative_to(model)), capsys)
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["part-99999.parquet", "notes.txt"])
@pytest.mark.parametrize("table", MODEL_TABLES)
def test_a_file_too_many_in_a_model_is_refused_by_name(
    spark: SparkSession, model: Path, table: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(next((model / table).glob("*.parquet")), model / table / name)
    refused_as_model(spark, model, f"{table}/{name}", capsys)


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_no_byte_of_a_models_manifest_can_change_unnoticed(model: Path, mask: int) -> None:
    path = model / "manifest.json"
    content = path.read_bytes()
    for place in range(mask % 5, len(content), 5):
        changed = bytearray(content)
        changed[place] ^= mask
        path.write_bytes(changed)
        if changed[place : place + 1] == b"E":
            continue  # 1e-06 and 1E-06 are the same number
        with pytest.raises(ModelError, match=r"manifest\.json"):
            load_users(model)
    path.write_bytes(content)
    assert len(load_users(model).ids) == 30


@pytest.mark.parametrize("content", ["5", "[]", "null", '"x"', "{}", '{"tables": 5}'])
def test_a_manifest_that_is_another_json_value_is_refused(
    model: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (model / "manifest.json").write_text(content)
    with pytest.raises(ModelError, match=r"manifest\.json"):
        load_users(model)
    root = model.parents[1]
    assert manage.execute(manage.verify, None, [f"root={root}"], debug=False) == 11
    assert "manifest.json" in capsys.readouterr().out


def test_a_whole_model_is_whole(spark: SparkSession, model: Path) -> None:
    store = Store(spark, str(model.parents[1]))
    assert load_model(store, store.uri("models", model.name)).users.count() == 30
    assert not LocalModel.load(model).recommend(["i001"], 3).empty
    assert json.loads((model / "manifest.json").read_text())["n_users"] == 30
