"""Manifests are typed, sealed and versioned."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys.flows.manifest import MANIFESTS
from recsys.flows.record import read_run
from recsys.ingest.manifest import InteractionsManifest
from recsys.model.manifest import ModelManifest
from recsys.store.manifest import Manifest, ManifestError
from recsys.store.posix import PosixFiles
from tests.conftest import csv_input, run_in, small_ratings, write_csv


@pytest.fixture(scope="module")
def root(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the root of a whole run."""
    folder = tmp_path_factory.mktemp("manifests")
    source = csv_input(write_csv(folder / "ratings.csv", small_ratings()))
    early = {"epochs": 2, "early_stopping": {"patience": 1}}
    gates = {"min_to_popularity": None, "min_full_lists": None}
    (folder / "items.csv").write_text("id,kind\ni001,a\ni002,a\n")
    table = {"path": str(folder / "items.csv"), "options": {"header": True}}
    features = {"items": {"shop": {**table, "groups": {"kind": {}}}}}
    run_in(
        spark,
        folder / "out",
        "run",
        input=source,
        training=early,
        gates=gates,
        features=features,
    )
    return folder / "out"


def written(root: Path, kind: str) -> Path:
    (path,) = (root / kind).rglob("manifest.json")
    return path


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_that_a_run_wrote_is_read_back_as_it_was(root: Path, kind: str) -> None:
    content = written(root, kind).read_bytes()
    manifest = MANIFESTS[kind].from_json(content)
    assert manifest.schema_version == MANIFESTS[kind].SCHEMA_VERSION
    assert manifest.to_json() == content


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_of_a_newer_version_is_refused_by_its_number(root: Path, kind: str) -> None:
    newer = MANIFESTS[kind].SCHEMA_VERSION + 1
    values = {**json.loads(written(root, kind).read_text()), "schema_version": newer}
    message = f"it has schema_version {newer}, and this version of recsys"
    with pytest.raises(ManifestError, match=message):
        MANIFESTS[kind].from_json(json.dumps(values).encode())


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_with_a_key_too_many_or_too_few_is_refused_by_the_key(
    root: Path, kind: str
) -> None:
    values = json.loads(written(root, kind).read_text())
    values.pop("sha256", None)
    with pytest.raises(ManifestError, match="surprise: Extra inputs"):
        MANIFESTS[kind].from_plain({**values, "surprise": 1})
    keys = ("configuration_hash", "features_id", "interactions_id")
    key = next(key for key in keys if key in values)
    without = {name: value for name, value in values.items() if name != key}
    with pytest.raises(ManifestError, match=f"{key}: Field required"):
        MANIFESTS[kind].from_plain(without)


@pytest.mark.parametrize("kind", ["interactions", "models"])
def test_a_sealed_manifest_that_was_changed_is_refused(root: Path, kind: str) -> None:
    values = json.loads(written(root, kind).read_text())
    values["run_id"] = "another"
    with pytest.raises(ManifestError, match="its content is not what was written"):
        MANIFESTS[kind].from_json(json.dumps(values).encode())


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff", b'{"schema_version": "1"}']
)
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    for kind in MANIFESTS.values():
        with pytest.raises(ManifestError):
            kind.from_json(content)


def test_a_damaged_record_of_a_run_counts_as_none(root: Path, tmp_path: Path) -> None:
    files = PosixFiles(tmp_path)
    assert read_run(files, "r1") is None
    files.replace(files.uri("runs", "r1", "manifest.json"), b"{")
    assert read_run(files, "r1") is None


def test_the_manifests_of_a_run_agree_with_one_another(root: Path) -> None:
    read: Callable[[str], Any] = lambda kind: MANIFESTS[kind].from_json(  # noqa: E731
        written(root, kind).read_bytes()
    )
    run, model, version = read("runs"), read("models"), read("publications")
    interactions = read("interactions")
    assert isinstance(model, ModelManifest)
    assert isinstance(interactions, InteractionsManifest)
    assert run.model_id == model.model_id == version.model_id == version.model.model_id
    assert model.interactions_id == interactions.interactions_id
    assert model.counts == interactions.counts == run.counts == version.model.counts
    assert model.id_types == interactions.id_types
    assert model.training.early_stopping == version.model.training.early_stopping
    assert run.outputs["recommendations"].rows == version.tables.recommendations.rows


def test_every_field_of_every_manifest_is_documented() -> None:
    def undocumented(schema: dict[str, Any]) -> list[str]:
        return [
            f"{name}.{key}"
            for name, part in {"": schema, **schema.get("$defs", {})}.items()
            for key, field in part.get("properties", {}).items()
            if "description" not in field and name != "IdTypes"
        ]

    for kind in MANIFESTS.values():
        assert issubclass(kind, Manifest)
        assert undocumented(kind.model_json_schema()) == []
