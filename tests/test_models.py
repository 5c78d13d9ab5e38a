"""Which models a root has: their list, the latest one, and an answer to one that is not there."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from example_manifests import REPORT, trained_model

from recsys.cli import main
from recsys.columns import IdTypes
from recsys.errors import ConfigError, GateError, ModelError
from recsys.flows.record import read_run
from recsys.model.listing import latest_model, list_models
from recsys.model.manifest import ModelManifest, ModelTables
from recsys.store.checksums import local_files
from recsys.store.manifest import MANIFEST, WrittenTable
from recsys.store.posix import PosixFiles
from tests.conftest import csv_input, small_ratings

Run = Callable[..., dict[str, Any]]


def store_model(files: PosixFiles, model_id: str, created_at: str, **more: Any) -> Path:
    """Store a model of three files that hold no table; nobody reads them here."""
    folder = files.path(files.uri("models", model_id))
    tables = {}
    for name in ("items", "users", "fold_in"):
        files.write(files.uri("models", model_id, name, "part-0.parquet"), b"x" * 500)
        tables[name] = WrittenTable(rows=1, files=local_files(folder / name))
    manifest = ModelManifest(
        **dict(trained_model(model_id, **more)),
        schema_version=ModelManifest.SCHEMA_VERSION,
        run_id=model_id,
        run_date=created_at[:10],
        created_at=created_at,
        configuration={},
        configuration_hash="",
        fold_in=None,
        versions={},
        timings_seconds={},
        id_types=IdTypes("string", "string"),
        n_users=12_345,
        n_items=678,
        no_components=64,
        tables=ModelTables(**tables),
    )
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return folder


@pytest.fixture
def files(tmp_path: Path) -> PosixFiles:
    return PosixFiles(tmp_path / "out")


def recsys(files: PosixFiles, *arguments: str) -> Result:
    root = f"root={files.path(files.root)}"
    return CliRunner().invoke(main, [*arguments, "--set", root])


def test_models_are_listed_newest_first_with_what_tells_them_apart(files: PosixFiles) -> None:
    store_model(files, "z-old", "2026-11-23T23:59:59+00:00")
    store_model(files, "a-new", "2026-11-24T00:00:00.5+00:00", early_stopping=REPORT)
    store_model(files, "b-equal", "2026-11-24T00:00:00+00:00")
    store_model(files, "a-equal", "2026-11-24T00:00:00+00:00")
    found = list_models(files)
    assert [model.model_id for model in found] == ["a-new", "b-equal", "a-equal", "z-old"]
    header, *lines = recsys(files, "models").stdout.splitlines()
    assert header.split("  ")[0] == "model"
    assert lines[0].split() == [
        *("a-new", "2026-11-24T00:00:00", "2026-11-24", "12,345", "678", "64"),
        *("1", "0.2000", "1", "KiB"),
    ]
    assert lines[3].split()[6:] == ["1", "1", "KiB"]  # no nDCG without early stopping
    told = json.loads(recsys(files, "models", "--json").stdout)
    assert told == [model.model_dump() for model in found]
    assert told[0] == {
        "model_id": "a-new",
        "created_at": "2026-11-24T00:00:00.5+00:00",
        "run_date": "2026-11-24",
        "users": 12_345,
        "items": 678,
        "components": 64,
        "epochs": 1,
        "validation_ndcg": 0.2,
        "bytes": 1_500,
        "refresh_of": None,
        "error": None,
    }
    assert told[3]["validation_ndcg"] is None


def test_a_root_without_models_has_an_empty_list(files: PosixFiles) -> None:
    files.write(files.uri("runs", "r1", "x"), b"")
    assert len(recsys(files, "models").stdout.splitlines()) == 1
    assert json.loads(recsys(files, "models", "--json").stdout) == []
    with pytest.raises(ModelError, match="--model latest: there is no complete model in file:"):
        latest_model(files)


def test_the_latest_model_is_the_newest_that_is_complete(
    files: PosixFiles, caplog: pytest.LogCaptureFixture
) -> None:
    store_model(files, "m1", "2026-11-24T01:00:00+00:00")
    store_model(files, "m2", "2026-11-24T02:00:00+00:00")
    assert latest_model(files) == "m2"
    older = store_model(files, "m0", "2026-11-24T00:00:00+00:00")
    (older / "items/part-0.parquet").unlink()
    assert (latest_model(files), caplog.messages) == ("m2", [])  # an older one is nobody's matter
    newer = store_model(files, "m3", "2026-11-24T03:00:00+00:00")
    (newer / "users/part-0.parquet").unlink()
    damaged = store_model(files, "m4", "2026-11-24T04:00:00+00:00")
    (damaged / MANIFEST).write_bytes(b"{")
    files.write(files.uri("models", "m5", "items", "part-0.parquet"), b"x")
    files.write(files.uri("models", "m6"), b"a file")
    assert latest_model(files) == "m2"
    assert [message.split(": ")[0] for message in caplog.messages] == [
        f"model {name} is passed over" for name in ("m3", "m6", "m5", "m4")
    ]
    assert "users/part-0.parquet is missing" in caplog.messages[0]
    lines = recsys(files, "models").stdout.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        *("model", "m3", "m2", "m1", "m0", "m6", "m5", "m4")
    ]
    assert lines[2] == "    cannot be used: users/part-0.parquet is missing"


def test_a_model_that_is_not_there_is_answered_with_those_that_are(files: PosixFiles) -> None:
    liked = ("recommend", "--liked", "i1", "--model")
    files.write(files.uri("runs", "r1", "x"), b"")
    told = recsys(files, *liked, "nope")
    assert told.exit_code == 7
    assert "there is no model nope in file:" in told.stderr
    assert told.stderr.endswith("; there is none; train one with recsys train\n")
    assert recsys(files, *liked, "latest").exit_code == 7
    for hour in range(8):
        store_model(files, f"m{hour}", f"2026-11-24T0{hour}:00:00+00:00")
    told = recsys(files, *liked, "nope")
    shown = ", ".join(f"m{hour} (2026-11-24)" for hour in (7, 6, 5, 4, 3))
    expected = f"there are (newest first): {shown} and 3 more; see recsys models\n"
    assert told.stderr.endswith(expected)
    assert told.stderr.count("\n") == 1


def test_a_run_keeps_the_model_that_latest_was_at_its_first_attempt(
    run: Run, ratings_csv: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    files = PosixFiles(tmp_path / "out")
    source = csv_input(ratings_csv(small_ratings()))
    strict = {"min_users": 1, "max_top_item": 0.01}
    again = {"model_id": "latest", "gates": strict, "scoring": {"k": 3}}
    with pytest.raises(ModelError, match="--model latest: there is no complete model"):
        run("score", run_id="s", **again)
    assert read_run(files, "s").state == "failed"  # type: ignore[union-attr]
    first = run("train", run_id="t1", input=source)["model_id"]
    with pytest.raises(GateError):
        run("score", run_id="s", **again)
    record = read_run(files, "s")
    assert record is not None
    assert (record.requested_model, record.model_id) == ("latest", first)
    assert f"--model latest: model {first}" in caplog.messages

    second = run("train", run_id="t2", input=source)["model_id"]
    assert latest_model(files) == second
    manifest = run("score", run_id="s", **again, force=True)
    assert (manifest["requested_model"], manifest["model_id"]) == ("latest", first)
    assert run("score", run_id="s", **again, force=True) == manifest  # complete already
    # Another run takes the newer one, and so does another command.
    assert run("similar-items", run_id="n", model_id="latest")["model_id"] == second
    # The run is that of its model, however it is asked for.
    assert run("score", run_id="s", **{**again, "model_id": first})["model_id"] == first
    with pytest.raises(ConfigError, match="complete already, with another model id"):
        run("score", run_id="s", **{**again, "model_id": second})
    explicit = {"run_id": "e", "scoring": {"k": 2}}
    run("score", model_id=first, **explicit)
    with pytest.raises(ConfigError, match="complete already, with another model id"):
        run("score", model_id="latest", **explicit)


def test_a_run_whose_model_is_gone_is_not_continued_with_another(
    run: Run, ratings_csv: Any, tmp_path: Path
) -> None:
    files = PosixFiles(tmp_path / "out")
    source = csv_input(ratings_csv(small_ratings()))
    first = run("train", run_id="t1", input=source)["model_id"]
    strict = {"min_users": 1, "max_top_item": 0.01}
    again = {"model_id": "latest", "gates": strict, "scoring": {"k": 3}}
    with pytest.raises(GateError):
        run("score", run_id="s", **again)
    second = run("train", run_id="t2", input=source)["model_id"]
    files.delete(files.uri("models", first))
    with pytest.raises(ModelError, match=rf"no model {first} in .*: {second} \(2026-11-24\)"):
        run("score", run_id="s", **again)
    # Nor is a version that a killed run has published taken for another model's.
    run("score", run_id="p", model_id=second)
    path = tmp_path / "out/runs/p/manifest.json"
    path.write_text(path.read_text().replace('"complete"', '"running"'))
    third = run("train", run_id="t3", input=source)["model_id"]
    with pytest.raises(ConfigError, match=r"run p has published .* already, with another model"):
        run("score", run_id="p", model_id=third)


def test_a_refresh_is_shown_with_its_training_and_is_not_the_latest_to_go_on_from(
    files: PosixFiles,
) -> None:
    store_model(files, "m1", "2026-11-24T01:00:00+00:00")
    path = store_model(files, "m2", "2026-11-24T02:00:00+00:00") / MANIFEST
    found = ModelManifest.from_json(path.read_bytes())
    path.write_bytes(found.model_copy(update={"refresh_of": "m1"}).to_json())
    assert [model.refresh_of for model in list_models(files)] == ["m1", None]
    assert recsys(files, "models").stdout.splitlines()[2] == "    refresh of m1"
    assert latest_model(files) == "m2"
    assert latest_model(files, trained=True) == "m1"
    path.parent.with_name("m1").joinpath(MANIFEST).unlink()
    with pytest.raises(ModelError, match="--from latest: there is no complete model"):
        latest_model(files, "--from", trained=True)
