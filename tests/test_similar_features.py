"""What is near a feature, and what a model knows of users, items and features: known answers."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import generate_docs
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

import recsys
from recsys.config.sections import Titles
from recsys.errors import ConfigError, InputError, ModelError, OutputError
from recsys.kernel.neighbours import candidates, nearest, unit_vectors
from recsys.kernel.topk import KernelError
from recsys.model.arrays import load_items
from recsys.model.manifest import ModelManifest
from recsys.score.local import LocalModel
from recsys.store.manifest import MANIFEST
from tests.conftest import RUN_DATE, csv_input, model_folder, run_in, table, write_csv
from tests.test_command_line import BIN, command, complaint
from tests.test_similar import ACROSS, given

Run = Callable[..., dict[str, Any]]

# The model is trained, and then given these. Item 6 has nothing but features.
ITEMS = [[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 0.0], [0.5, 0.0], [2.0, 0.0]]
USERS = [[1.0, 0.0], [1.0, 1.0], [-2.0, 0.0], [0.0, 0.0]]
ITEM_FEATURES = {
    "brand=x": [0.0, 2.0],
    "brand=y": [-1.0, 0.0],
    "tag=a": [1.0, 0.0],
    "tag=b": [3.0, 0.0],
    "tag=zero": [0.0, 0.0],
}
USER_FEATURES = {"region=n": [1.0, 0.0], "region=s": [1.0, 1.0]}
OF_ITEMS = "id,brand,tag\n1,X,A\n2,y,b\n3,X,A\n4,y,zero\n5,x,b\n6,y,a\n"
OF_USERS = "id,region\n1,n\n2,s\n3,n\n4,s\n"


def features_in(folder: Path) -> dict[str, Any]:
    """Describe items and users as a configuration does."""
    (folder / "items.csv").write_text(OF_ITEMS)
    (folder / "users.csv").write_text(OF_USERS)
    read, once = {"options": {"header": True}}, {"min_count": 1, "weight": 1.0}
    groups = {"brand": once, "tag": once, "rare": {"column": "tag", "min_count": 99}}
    return {
        "keep": "all",
        "normalise": True,
        "items": {"shop": {**read, "path": str(folder / "items.csv"), "groups": groups}},
        "users": {
            "crm": {**read, "path": str(folder / "users.csv"), "groups": {"region": once}},
        },
    }


@pytest.fixture(scope="module")
def learned(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train with features, once, and return the model's directory, which nobody changes."""
    folder = tmp_path_factory.mktemp("learned")
    rows = [[u, i, 5, 1] for u in range(1, 5) for i in range(1, 6)]
    source = csv_input(
        write_csv(folder / "ratings.csv", rows), id_types={"user": "int", "item": "int"}
    )
    manifest = run_in(
        spark,
        folder / "out",
        "train",
        run_id="t",
        input=source,
        training={"no_components": 2},
        features=features_in(folder),
    )
    return model_folder(manifest)


@pytest.fixture
def model(learned: Path, tmp_path: Path) -> Path:
    """Return a copy of that model, below a root of the test's own, with the embeddings above."""
    shutil.copytree(learned.parents[1], tmp_path / "out")
    folder = tmp_path / "out" / "models" / learned.name
    given(folder, "items", ITEMS)
    given(folder, "users", USERS)
    given(folder, "item_features", list(ITEM_FEATURES.values()))
    given(folder, "user_features", list(USER_FEATURES.values()))
    return folder


@pytest.fixture
def job(run: Run, model: Path) -> Run:
    """Look for what is near the features of that model."""
    numbers = itertools.count()

    def execute(**sections: Any) -> dict[str, Any]:
        run_id = f"s{next(numbers)}"
        return run("similar-features", run_id=run_id, model_id=model.name, **sections)

    return execute


def change(folder: Path, **changes: Any) -> None:
    """Change what a model's manifest says."""
    manifest = ModelManifest.from_json((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(manifest.model_copy(update=changes).to_json())


def near(manifest: dict[str, Any], name: str, whose: str) -> dict[str, list[tuple[Any, float]]]:
    rows = table(manifest, name).sort_values(["feature", "rank"])
    return {
        key: list(zip(group[whose], group["cosine"], strict=True))
        for key, group in rows.groupby("feature")
    }


def test_features_get_the_nearest_of_their_own_kind_and_the_items_near_them(
    job: Run, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = job(similar={"k": 2})
    assert near(manifest, "similar_features", "neighbour") == {
        "brand=x": [("brand=y", 0.0), ("tag=a", 0.0)],  # equal cosines: in order of the names
        "brand=y": [("brand=x", 0.0), ("tag=a", -1.0)],
        "tag=a": [("tag=b", 1.0), ("brand=x", 0.0)],
        "tag=b": [("tag=a", 1.0), ("brand=x", 0.0)],
        "region=n": [("region=s", ACROSS)],  # there are no more features of users
        "region=s": [("region=n", ACROSS)],
    }
    # Item 4 is zero, and item 6 has nothing but features.
    assert near(manifest, "feature_items", "item_id") == {
        "brand=x": [(3, 1.0), (1, 0.0)],
        "brand=y": [(3, 0.0), (1, -1.0)],
        "tag=a": [(1, 1.0), (2, 1.0)],
        "tag=b": [(1, 1.0), (2, 1.0)],
    }
    rows = table(manifest, "similar_features")
    assert set(zip(rows["kind"], rows["group"], strict=True)) == {
        ("items", "brand"),
        ("items", "tag"),
        ("users", "region"),
    }
    assert list(rows["neighbour_group"]) == [name.split("=")[0] for name in rows["neighbour"]]
    assert manifest["similar_features"] == {
        "items": {
            "features": 5,
            "without_direction": 1,
            "answered": 4,
            "neighbours": 2,
            "items": 2,
        },
        "users": {
            "features": 2,
            "without_direction": 0,
            "answered": 2,
            "neighbours": 1,
            "items": 0,
        },
    }
    lost = "of 5 features of items, some get no neighbours: 1 without direction"
    assert lost in caplog.messages
    reference = generate_docs.described_tables()
    for name, n in (("similar_features", 10), ("feature_items", 8)):
        output, found = manifest["outputs"][name], table(manifest, name)
        assert output["rows"] == len(found) == n
        assert Path(output["uri"]).parts[-3:] == (name, "2026-11-24", "s0")
        assert list(found) == list(reference[name]["columns"])
        assert not found.isna().any().any()
        assert not found.duplicated(reference[name]["key"]).any()
        assert set(found["model_id"]) == {manifest["model_id"]}
        assert set(found["run_id"]) == {"s0"}
        assert set(found["run_date"]) == {RUN_DATE}


def test_the_number_of_parts_changes_no_bit_and_only_the_groups_asked_for_are_compared(
    job: Run,
) -> None:
    one, many = (job(similar={"k": 9}, scoring={"users_per_file": n}) for n in (9, 1))
    for name, n_files in (("similar_features", 6), ("feature_items", 4)):
        assert len(many["outputs"][name]["files"]) == n_files
        key = [column for column in ("kind", "feature", "rank") if column in table(one, name)]
        same = [
            table(m, name).sort_values(key).drop(columns=["run_id", "generated_at"])
            for m in (one, many)
        ]
        pd.testing.assert_frame_equal(
            *(frame.reset_index(drop=True) for frame in same), check_exact=True
        )
    tags = job(
        similar={"k": 9, "features": {"groups": ["tag", "rare"]}},
        features={"cold_items": "include"},
    )
    assert near(tags, "similar_features", "neighbour") == {
        "tag=a": [("tag=b", 1.0)],
        "tag=b": [("tag=a", 1.0)],
    }
    nearest_ones = [(1, 1.0), (2, 1.0), (5, 1.0), (6, 1.0), (3, 0.0)]
    assert near(tags, "feature_items", "item_id") == dict.fromkeys(("tag=a", "tag=b"), nearest_ones)
    assert tags["similar_features"]["users"] is None


def test_a_model_with_features_of_users_alone_has_no_items_near_them(job: Run, model: Path) -> None:
    manifest = ModelManifest.from_json((model / MANIFEST).read_bytes())
    assert manifest.features is not None
    change(
        model,
        features=manifest.features.model_copy(update={"items": None}),
        tables=manifest.tables.model_copy(update={"item_features": None}),
    )
    shutil.rmtree(model / "item_features")
    found = job()
    assert list(found["outputs"]) == ["similar_features"]
    assert set(table(found, "similar_features")["kind"]) == {"users"}
    assert found["similar_features"]["items"] is None


def test_what_cannot_be_compared_is_refused_before_anything_is_read(
    job: Run, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match=r"model .* has no group 'tags'; did you mean tag\?; it has .*region$"
    ):
        job(similar={"features": {"groups": ["tags"]}})
    with pytest.raises(InputError, match="has learned no feature of rare; check their min_count"):
        job(similar={"features": {"groups": ["rare"]}})
    published = tmp_path / "out" / "feature_items" / "2026-11-24" / "earlier"
    published.mkdir(parents=True)
    pq.write_table(pa.table({"item_id": ["a"]}), published / "part.parquet")
    with pytest.raises(OutputError, match=r"feature_items: column item_id was string and is int"):
        job()
    shutil.rmtree(published)
    change(model, features=None)
    with pytest.raises(ConfigError, match=r"^model \S+ has no features; train one with features"):
        job()
    for run_id in ("s0", "s2", "s3"):
        record = json.loads((tmp_path / f"out/runs/{run_id}/manifest.json").read_text())
        assert record["timings_seconds"] == {}


@pytest.mark.parametrize("k", [1, 3, 100])
def test_neighbours_in_another_table_are_those_of_a_full_sort(k: int) -> None:
    random = np.random.default_rng(5)
    base = np.concatenate([random.choice([-1, 1], (6, 6)), random.normal(size=(6, 6))])
    raw = base[random.integers(0, 12, 90)] * random.choice([-3, 0.1, 1, 7], 90)[:, None]
    raw[[5, 60]] = 0
    vectors = unit_vectors(raw.astype(np.float32))
    asked = unit_vectors(base.astype(np.float32))
    ranked = nearest(candidates(vectors), asked, k)
    for n, one in enumerate(asked):
        cosines = []
        for row in np.flatnonzero(vectors.any(axis=1)):
            total = 0.0
            for a, b in zip(one.tolist(), vectors[row].tolist(), strict=True):
                total += a * b
            cosines.append((-min(1.0, max(-1.0, float(np.float32(total)))), int(row)))
        part = slice(ranked.indptr[n], ranked.indptr[n + 1])
        found = zip((-ranked.scores[part]).tolist(), ranked.items[part].tolist(), strict=True)
        assert list(found) == sorted(cosines)[:k]


# The command, and the same at once


def test_the_command_writes_what_a_local_model_says(model: Path, tmp_path: Path) -> None:
    settings = {
        "spark.master": "local[2]",
        "spark.driver.memory": "700m",
        "spark.ui.enabled": False,
    }
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"root": str(tmp_path / "out"), "spark": settings}))
    asked = ("similar", "features", "--config", config, "--model", "latest")
    ran = command(BIN / "recsys", *asked, "--run-id", "c", "--set", "similar.k=4", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    names = [line.split()[0] for line in ran.stdout.splitlines()]
    assert names == ["similar_features", "feature_items", "report"]
    near_features, near_items = (
        pd.concat(map(pd.read_parquet, (tmp_path / "out" / name).rglob("*.parquet")))
        for name in names[:2]
    )
    local = LocalModel.load(model)
    for kind, learned in (("items", ITEM_FEATURES), ("users", USER_FEATURES)):
        for name in learned:
            one = local.feature(name, kind)
            found = local.similar_features(one, k=4)
            rows = near_features[near_features["feature"] == name].sort_values("rank")
            assert list(found["feature"]) == list(rows["neighbour"])
            assert np.array_equal(found["cosine"], rows["cosine"])
            if kind == "items":
                found = local.similar_items(one, k=4)
                rows = near_items[near_items["feature"] == name].sort_values("rank")
                assert list(found["item_id"]) == list(rows["item_id"])
                assert np.array_equal(found["cosine"], rows["cosine"])

    change(model, features=None)
    ran = command(BIN / "recsys", *asked, "--run-id", "d", cwd=tmp_path)
    assert ran.returncode == 2
    assert "has no features; train one with features.items or features.users" in complaint(ran)


def test_a_model_represents_users_items_and_features(model: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text("id,name\n1,One\n3,Three\n")
    titles = Titles(path=str(names), options={"header": True}, column="id", title="name")
    local = recsys.LocalModel.load(model, titles)
    for one, embedding in (
        (local.item("2"), [3.0, 0.0]),
        (local.item(6), [2.0, 0.0]),
        (local.user(3), [-2.0, 0.0]),
        (local.feature("tag=b", "items"), [3.0, 0.0]),
        (local.feature("region=s", "users"), [1.0, 1.0]),
        # Weights are scaled to a sum of 1, in which the identity, which is not there, has a 1.
        (local.described({"tag=a": 1, "brand=x": 1}, "items"), [1 / 3, 2 / 3]),
        (local.described({"tag=a": 3, "tag=new": 5}, "items"), [0.75, 0.0]),
        (local.described({"region=n": 0.5, "region=s": 0.5}, "users"), [0.5, 0.25]),
    ):
        np.testing.assert_allclose(one.embedding, embedding, rtol=1e-6)
        assert one.embedding.dtype == one.bias.dtype == np.float32
    items = load_items(model)
    assert local.item(5).bias == items.biases[4]
    assert (local.item("5.0").id, local.user(3).kind) == (5, "users")

    found = local.similar_items(local.item(1), k=9)
    assert list(found.columns) == ["rank", "item_id", "cosine", "title"]
    assert found.to_numpy().tolist() == [
        [1, 2, 1.0, None],  # neither itself, nor 4, nor 6
        [2, 5, 1.0, None],
        [3, 3, 0.0, "Three"],
    ]
    # What is asked about may have nothing but features.
    assert list(local.similar_items(local.item(6), k=2)["item_id"]) == [1, 2]
    assert list(local.similar_items(local.user(3), k=2)["item_id"]) == [3, 1]
    assert local.similar_items(local.item(4)).empty
    found = local.similar_features(local.described({"tag=b": 1}, "items"), k=2)
    assert list(found.columns) == ["rank", "feature", "cosine", "group", "value"]
    assert found.to_numpy().tolist() == [
        [1, "tag=a", 1.0, "tag", "A"],  # the value as most rows have it
        [2, "tag=b", 1.0, "tag", "b"],
    ]
    assert list(local.similar_features(local.item(3), k=1)["feature"]) == ["brand=x"]
    assert list(local.similar_features(local.user(3), k=1)["feature"]) == ["region=s"]
    assert list(local.similar_features(local.user(3), 1, "items")["feature"]) == ["brand=y"]
    assert local.similar_features(local.feature("tag=zero", "items")).empty
    assert local.feature_names({"brand": " X "}, "items") == ["brand=x"]
    assert local.unknown_features(["tag=a", "tag=c"], "items") == ["tag=c"]


def test_what_a_model_does_not_have_is_said(model: Path) -> None:
    local = LocalModel.load(model)
    for call, message in (
        (lambda: local.item("x"), "item: found 'x', expected an id of the type int"),
        (lambda: local.item(7), "item: found 7, expected one of the model's 6 items"),
        (lambda: local.user(None), "user: found 'None', expected an id of the type int"),
        (lambda: local.user(5), "user: found 5, expected one of the model's 4 users"),
        (lambda: local.feature("tag=aa", "items"), "the 5 features of items .*did you mean tag=a"),
        (lambda: local.feature("tag=a", "users"), "expected some of the 2 features of users"),
        (lambda: local.feature("tag=a", "item"), "kind: found 'item', expected items or users"),
        (lambda: local.described({}, "items"), "features: found none, expected some"),
        (lambda: local.described({"tag=a": 0}, "items"), "has the weight 0, expected above 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
    with pytest.raises(KernelError):
        local.similar_items(local.item(1), k=0)
    given(model, "item_features", [[np.nan, 0.0]] * 5)
    with pytest.raises(ModelError, match="item_features has values that are not finite"):
        LocalModel.load(model).feature("tag=a", "items")
    change(model, features=None)
    with pytest.raises(ConfigError, match=r"no features of items; train it with features\.items$"):
        LocalModel.load(model).feature("tag=a", "items")


def test_features_alone_make_the_vector_of_an_item_that_has_nothing_else(learned: Path) -> None:
    items, local = load_items(learned), LocalModel.load(learned)
    assert items.trained.tolist() == [True] * 5 + [False]
    made = local.described({"brand=y": 1, "tag=a": 1}, "items")
    np.testing.assert_allclose(made.embedding, items.embeddings[5], rtol=1e-6)
    assert made.bias == pytest.approx(items.biases[5], rel=1e-6)
