import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys.config.configuration import digest
from recsys.errors import ModelError
from recsys.model.arrays import load_fold_in, load_items, load_users
from recsys.model.tables import load_model
from recsys.store.tables import Store
from tests.conftest import csv_input, run_in, small_ratings, table, write_csv


@pytest.fixture(scope="module")
def trained(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Train one small model for the tests of this module; they work on copies of it."""
    folder = tmp_path_factory.mktemp("model")
    source = csv_input(write_csv(folder / "ratings.csv", small_ratings()))
    liked = {"rating_threshold": 4.0}
    return folder / "out", run_in(spark, folder / "out", "train", input=source, filters=liked)


@pytest.fixture
def copy(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """Copy the model's root, to be damaged."""
    shutil.copytree(trained[0], tmp_path / "out")
    return tmp_path / "out" / "models" / trained[1]["model_id"]


def load(spark: SparkSession, folder: Path) -> Any:
    store = Store(spark, str(folder.parents[1]))
    return load_model(store, store.uri("models", folder.name))


def test_spark_and_pyarrow_alone_read_the_same_model(spark: SparkSession, copy: Path) -> None:
    by_spark, items, users = load(spark, copy), load_items(copy), load_users(copy)
    assert by_spark.items.ids.to_pylist() == items.ids.to_pylist() == sorted(items.ids.to_pylist())
    assert by_spark.items.embeddings.tobytes() == items.embeddings.tobytes()
    assert by_spark.items.biases.tobytes() == items.biases.tobytes()
    rows = by_spark.users.orderBy("user_index").collect()
    assert [row["user_id"] for row in rows] == users.ids.to_pylist()
    assert np.array_equal(
        np.array([row["embedding"] for row in rows], np.float32), users.embeddings
    )
    assert items.embeddings.dtype == np.float32
    assert items.embeddings.shape == (len(items.ids), 4)


def test_seen_holds_every_pair_of_the_user_also_those_left_out_of_training(
    spark: SparkSession, copy: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    model = load(spark, copy)
    ids = model.items.ids.to_pylist()
    pairs = table(trained[1], "interactions", "pairs")
    assert (pairs["label"] == 0).any()
    expected = pairs[pairs["item_id"].isin(ids)].groupby("user_id")["item_id"].apply(sorted)
    for row in model.users.collect():
        assert [ids[index] for index in row["seen"]] == expected[row["user_id"]]


def test_the_manifest_says_where_the_model_comes_from(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    counts = manifest["counts"]
    assert counts["rows_read"] == 900
    assert counts["rows_accepted"] == 900
    assert counts["pairs"] == counts["positive_pairs"] + counts["pairs_left_out"]
    assert abs(manifest["training"].pop("mean_user_bias")) < 1
    assert manifest["training"] == {
        "loss": "warp",
        "epochs": 2,
        "item_alpha": 1e-5,
        "user_alpha": 1e-5,
        "threads": 1,
        "openmp": True,
        "assembly": {
            "lightfm_components": 4,
            "known_users": {"share_of_trained": 1.0, "map": None, "bias_scale": 1.0},
            "second_view": None,
            "budget": None,
            "compared": {},
        },
        "seed": 42,
        "sample_share": 1.0,
        "early_stopping": None,
        "negatives": None,
        "weightless_pairs": 0,
    }
    assert manifest["configuration"]["filters"]["rating_threshold"] == 4.0
    assert len(manifest["configuration_hash"]) == 64
    assert manifest["input"]["files"] == 1
    assert manifest["input"]["listing"][0]["bytes"] > 0
    assert {"python", "numpy", "scipy", "lightfm-next", "pyspark"} <= set(manifest["versions"])
    assert {"prepare", "collect", "train"} <= set(manifest["timings_seconds"])


def load_locally(copy: Path) -> tuple[Any, ...]:
    return load_items(copy), load_users(copy), load_fold_in(copy)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def remove(path: Path) -> None:
    path.unlink()


def add(path: Path) -> None:
    shutil.copy(path, path.with_name("part-99999.parquet"))


@pytest.mark.parametrize("damage", [flip, truncate, remove, add])
@pytest.mark.parametrize("name", ["items", "users", "fold_in"])
def test_a_damaged_table_is_refused_by_the_name_of_its_file(
    spark: SparkSession, copy: Path, name: str, damage: Callable[[Path], None]
) -> None:
    path = next((copy / name).glob("*.parquet"))
    damage(path)
    named = f"{name}/{'part-99999.parquet' if damage is add else path.name}"
    for read in (
        lambda: load(spark, copy),
        lambda: (load_items(copy), load_users(copy), load_fold_in(copy)),
    ):
        with pytest.raises(ModelError) as caught:
            read()
        assert f"model {copy.name}" in str(caught.value)
        assert named in str(caught.value)


def rewrite(copy: Path, **changes: Any) -> None:
    path = copy / "manifest.json"
    manifest = {**json.loads(path.read_text()), **changes}
    kept = {k: v for k, v in manifest.items() if v is not None and k != "sha256"}
    path.write_text(json.dumps({**kept, "sha256": digest(kept)}))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"schema_version": 99}, "it has schema_version 99, and this version of recsys reads 4"),
        ({"model_id": "another"}, "its manifest.json is that of model another"),
        ({"n_items": None}, "manifest.json cannot be used: n_items: Field required"),
        ({"n_items": 7}, "items has no dense item_index up to 6"),
        ({"no_components": 5}, "embedding that is not of size 5"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    spark: SparkSession, copy: Path, changes: dict[str, Any], complaint: str
) -> None:
    rewrite(copy, **changes)
    for read in (lambda: load(spark, copy), lambda: load_items(copy)):
        with pytest.raises(ModelError) as caught:
            read()
        assert complaint in str(caught.value)
        assert f"model {copy.name}" in str(caught.value)


def test_a_missing_or_cut_manifest_is_refused(spark: SparkSession, copy: Path) -> None:
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    for read in (lambda: load(spark, copy), lambda: load_items(copy)):
        with pytest.raises(
            ModelError, match=r"manifest\.json cannot be used: it is not valid JSON"
        ):
            read()
    manifest.unlink()
    for read in (lambda: load(spark, copy), lambda: load_items(copy)):
        with pytest.raises(ModelError, match="is missing or incomplete"):
            read()


def test_a_table_directory_that_is_gone_is_refused(spark: SparkSession, copy: Path) -> None:
    shutil.rmtree(copy / "items")
    for read in (lambda: load(spark, copy), lambda: load_items(copy)):
        with pytest.raises(ModelError, match=r"is incomplete: items/part-.*is missing"):
            read()
