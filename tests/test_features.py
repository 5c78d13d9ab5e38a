"""Users and items as sums of the embeddings of their features, from training to lists."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import generate_docs
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
from click.testing import CliRunner
from pyspark.sql import SparkSession

from recsys.cli import main
from recsys.config.configuration import Config
from recsys.config.sections import EarlyStopping, Training
from recsys.errors import ConfigError, InputError
from recsys.kernel.fold_in import fold_in as fold_in_kernel
from recsys.kernel.fold_in import with_features
from recsys.kernel.topk import ItemMatrix, top_k
from recsys.learn import fitting
from recsys.learn.features import Described, Feature, Side, Sides, side
from recsys.model.arrays import load_fold_in, load_items, load_users
from recsys.score.local import LocalModel
from tests.conftest import csv_input, small_ratings, table

Run = Callable[..., dict[str, Any]]
GROUPS = {
    "parity": {"min_count": 1, "weight": 1.0},
    "tags": {"kind": "categories", "separator": "|", "weight": 1.0},
}
# LightFM learns with all of them, and no trial comes before.
ALL = {"keep": "all", "normalise": True}


def described(n: int, seed: int, *, extra: int = 0) -> Described:
    """Describe n + extra ids, 0 upwards, by two groups of three features each."""
    chance = np.random.default_rng(seed)
    features = [Feature(group, f"{k}", f"{k}", 1) for group in ("g", "h") for k in range(3)]
    made = sp.random(n + extra, 6, density=0.5, format="csr", dtype=np.float32, random_state=chance)
    return Described(pa.array(np.arange(n + extra, dtype=np.int32)), features, made)


def ids(n: int) -> pa.Array:
    return pa.array(np.arange(n, dtype=np.int32))


def both(n_users: int, n_items: int, **settings: Any) -> Sides:
    given = {"identity": True, "normalise": True, **settings}
    weights = {"g": 1.0, "h": 0.5}
    users, items = described(n_users, 1), described(n_items, 2, extra=4)
    return Sides(
        side(users, ids(n_users), weights, **given), side(items, ids(n_items), weights, **given)
    )


def some_labels(n_users: int = 40, n_items: int = 30, *, negative: bool = False) -> sp.coo_matrix:
    chance = np.random.default_rng(3)
    dense = (chance.random((n_users, n_items)) < 0.3).astype(np.float32)
    if negative:
        dense *= np.where(chance.random(dense.shape) < 0.4, -1, 1)
    return sp.coo_matrix(dense)


@pytest.mark.parametrize("loss", ["warp", "logistic"])
def test_scores_are_those_of_lightfm_with_the_same_features(loss: str) -> None:
    from lightfm import LightFM

    labels = some_labels(negative=loss == "logistic")
    features = both(*labels.shape)
    settings = Training.model_validate(
        {
            "loss": loss,
            "no_components": 8,
            "epochs": 3,
            "ema_decay": 0.0,
            "learning_rate": 0.05,
            "early_stopping": None,
            "sample_weights": {"rating": "none", "user_exponent": 0.0},
        }
    )
    fitted = fitting.fit(labels, settings, threads=1, features=features)
    assert features.users is not None
    assert features.items is not None
    model = LightFM(no_components=8, loss=loss)
    sizes = fitted.learned.item_embeddings.shape[0], fitted.learned.user_embeddings.shape[0]
    model._initialize(8, *sizes)
    for name in ("user_embeddings", "user_biases", "item_embeddings", "item_biases"):
        setattr(model, name, getattr(fitted.learned, name))
    users, items = (grid.ravel() for grid in np.indices(labels.shape, dtype=np.int32))
    expected = model.predict(
        users, items, user_features=features.users.weights, item_features=features.items.weights
    )
    made = fitted.embeddings
    found = made.user_embeddings @ made.item_embeddings.T
    found += made.user_biases[:, None] + made.item_biases
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5, atol=1e-5)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("refit", [True, False])
def test_early_stopping_judges_users_and_items_by_their_features(refit: bool) -> None:
    labels = some_labels(120, 60)
    stopping = EarlyStopping(refit=refit, patience=3)
    settings = Training(no_components=8, epochs=6, early_stopping=stopping).model_copy(
        update={"sample_weights": Training().sample_weights.model_copy(update={"rating": "none"})}
    )
    features = both(*labels.shape)
    fitted = fitting.fit(labels, settings, threads=1, features=features)
    assert fitted.report["ndcg"] > 0
    again = features.represent(fitted.learned)
    assert np.array_equal(again.item_embeddings, fitted.embeddings.item_embeddings)
    assert fitted.learned.item_embeddings.shape[0] == 60 + 6


def test_a_side_has_identities_features_and_those_who_have_nothing_else() -> None:
    features = [Feature("g", "a", "A", 2), Feature("g", "b", "B", 1), Feature("h", "c", "C", 2)]
    weights = sp.csr_matrix(
        np.array([[1, 0, 2], [0, 0, 0], [3, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    )
    known = Described(pa.array(["a", "b", "c", "d", "e"]), features, weights)
    found = side(
        known, pa.array(["a", "b", "x"]), {"g": 1.0, "h": 0.5}, identity=True, normalise=False
    )
    # Nobody in the training has g=b; c and d have something else, e has not.
    assert [feature.name for feature in found.features] == ["g=a", "h=c"]
    assert found.weights.toarray().tolist() == [
        [1, 0, 0, 1, 1],
        [0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
    ]
    assert found.cold_ids.to_pylist() == ["c", "d"]
    assert found.cold.toarray().tolist() == [[0, 0, 0, 3, 0], [0, 0, 0, 1, 0]]
    assert (found.n_identities, found.untrained_features, found.undescribed) == (3, 1, 1)
    scaled = side(
        known, pa.array(["a", "b", "x"]), {"g": 1.0, "h": 0.5}, identity=True, normalise=True
    )
    assert np.asarray(scaled.weights.sum(axis=1)).ravel() == pytest.approx([1, 1, 1])
    # The identity that they do not have keeps its place.
    assert scaled.cold.toarray().tolist() == [[0, 0, 0, 0.75, 0], [0, 0, 0, 0.5, 0]]


def test_without_identities_only_those_without_features_have_one() -> None:
    weights = sp.csr_matrix(np.array([[1, 0], [0, 0], [0, 2]], np.float32))
    features = [Feature("g", "a", "A", 1), Feature("g", "b", "B", 1)]
    known = Described(pa.array([1, 2, 3]), features, weights)
    found: Side = side(known, pa.array([1, 2, 3]), {"g": 1.0}, identity=False, normalise=True)
    assert found.n_identities == 1
    assert found.weights.toarray().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


# The job


@pytest.fixture
def source(ratings_csv: Any) -> dict[str, Any]:
    return csv_input(ratings_csv(small_ratings()))


def item_rows(n: int = 44) -> list[str]:
    """Describe items by the number's parity; those from 40 on have no ratings."""
    return [f"i{k:03},{'even' if k % 2 == 0 else 'odd'},t{k % 5}|t{k % 3}" for k in range(n)]


def tables(tmp_path: Path, items: list[str] | None = None) -> dict[str, Any]:
    """Describe items and users as a configuration does."""
    lines = item_rows() if items is None else items
    (tmp_path / "items.csv").write_text("\n".join(["id,parity,tags", *lines]) + "\n")
    users = [f"u{k:03},{'even' if k % 2 == 0 else 'odd'}" for k in range(34)]
    (tmp_path / "users.csv").write_text("\n".join(["id,parity", *users]) + "\n")
    read = {"options": {"header": True}}
    return {
        **ALL,
        "items": {"shop": {**read, "path": str(tmp_path / "items.csv"), "groups": GROUPS}},
        "users": {
            "crm": {
                **read,
                "path": str(tmp_path / "users.csv"),
                "groups": {"parity": {"weight": 1.0}},
            },
        },
    }


TRAINING = {"no_components": 8, "epochs": 15}
# Users rate items of their own parity with 4 or 5.
LIKED = {"filters": {"rating_threshold": 4}}


def model_folder(manifest: dict[str, Any]) -> Path:
    return Path(manifest["outputs"]["model"]["uri"].removeprefix("file:"))


def test_what_has_nothing_but_features_is_in_the_model_and_in_lists_where_it_is_wanted(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    features = tables(tmp_path)
    users = tmp_path / "who.csv"
    users.write_text("user_id\nu001\nu030\nu031\nstranger\n")
    cohort = {"users": {"path": str(users), "options": {"header": True}}}
    given = {"input": source, "training": TRAINING, "cohort": cohort, **LIKED}
    first = run(features=features, **given)
    items = load_items(model_folder(first))
    assert len(items.ids) == 44
    assert items.ids.filter(pa.array(~items.trained)).to_pylist() == [
        f"i{k:03}" for k in range(40, 44)
    ]
    assert items.positives is not None
    assert (items.positives[~items.trained] == 0).all()
    known = load_users(model_folder(first))
    assert known.ids.filter(pa.array(~known.trained)).to_pylist() == [
        "u030",
        "u031",
        "u032",
        "u033",
    ]

    status = table(first, "status").set_index("requested")["status"].to_dict()
    assert status == {
        "u001": "scored",
        "u030": "described",
        "u031": "described",
        "stranger": "fell_back",
    }
    lists = table(first, "recommendations")
    assert set(lists.loc[lists["user_id"] == "u030", "source"]) == {"features"}
    assert not set(lists["item_id"]) & {f"i{k:03}" for k in range(40, 44)}

    wanted = run(run_id="r2", features={**features, "cold_items": "include"}, **given)
    assert set(table(wanted, "recommendations")["item_id"]) & {f"i{k:03}" for k in range(40, 44)}
    # Users like items of their own parity.
    lists = table(wanted, "recommendations")
    new = lists["item_id"].isin([f"i{k:03}" for k in range(40, 44)])
    assert set(lists.loc[new, "source"]) == {"features"}
    assert set(lists.loc[~new & (lists["user_id"] == "u001"), "source"]) == {"model"}
    assert set(lists.loc[lists["user_id"] == "stranger", "source"]) == {"popular"}
    own = lists[lists["user_id"].isin(["u030", "u031"]) & (lists["rank"] <= 5)]
    parity = own["item_id"].str[1:].astype(int) % 2 == own["user_id"].str[1:].astype(int) % 2
    assert parity.mean() > 0.7


def test_places_of_each_list_are_reserved_for_items_that_have_nothing_but_features(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    features = tables(tmp_path)
    new = {f"i{k:03}" for k in range(40, 44)}
    people = {"user_id": ["u001", "u030", "folded", "stranger"]}
    liked = [None, None, ["i002", "i004"], None]
    pd.DataFrame({**people, "liked": liked}).to_parquet(tmp_path / "who.parquet")
    users = {"path": str(tmp_path / "who.parquet"), "format": "parquet", "liked": "liked"}
    training = {**TRAINING, "loss": "logistic"}
    given = {"input": source, "training": training, "cohort": {"users": users}, **LIKED}
    found = run(features={**features, "cold_items": 3}, **given)
    lists = by_rank(found)
    assert lists.groupby("user_id").size().to_dict() == dict.fromkeys(people["user_id"], 10)
    personal = lists["user_id"] != "stranger"
    assert (lists["item_id"].isin(new) == (personal & (lists["rank"] > 7))).all()
    # A row says what it rests on, and the status what the user is served by.
    sources = lists[personal].groupby(["user_id", lists["rank"] > 7])["source"].agg(set)
    assert sources.unstack().T.to_dict("list") == {
        "u001": [{"model"}, {"features"}],
        "u030": [{"features"}, {"features"}],
        "folded": [{"fold_in"}, {"features"}],
    }
    assert set(lists.loc[~personal, "source"]) == {"popular"}
    assert found["by_status"] == {"described": 1, "fell_back": 1, "folded_in": 1, "scored": 1}
    [share] = [gate for gate in found["gates"] if gate["gate"] == "cold_items"]
    assert (share["state"], share["found"]) == ("not applied", 0.3)

    # A folded-in user has no bias, whatever the item: the users' mean stands in for it.
    record = json.loads((model_folder(found) / "manifest.json").read_text())
    score = lists["score"].to_numpy(np.float64)
    score += np.where(lists["user_id"] == "folded", record["training"]["mean_user_bias"], 0)
    probability = np.where(personal, 1 / (1 + np.exp(-score)), np.nan)
    np.testing.assert_allclose(lists["probability"], probability, rtol=1e-6)

    local = LocalModel.load(model_folder(found))
    mine = lists[lists["user_id"] == "folded"]
    columns = ["rank", "item_id", "score", "source"]
    pd.testing.assert_frame_equal(
        local.recommend(["i002", "i004"])[columns], mine[columns].reset_index(drop=True)
    )
    short = local.recommend(["i002", "i004"], 2)  # shorter than configured: the first place is kept
    assert short["item_id"].tolist() == [mine["item_id"].iloc[0], mine["item_id"].iloc[7]]

    # Without them, and with two of them: the places before are the same.
    again = {"model_id": found["model_id"], **given}
    plain = by_rank(run("score", run_id="r2", features=features, **again))
    assert not set(plain["item_id"]) & new
    deny = {"deny": {"ids": ["i040", "i041"]}}
    fewer = run("score", run_id="r3", features={**features, "cold_items": 3}, items=deny, **again)
    two = by_rank(fewer)
    for other, first in ((lists, 7), (two, 8)):
        pd.testing.assert_frame_equal(head(other, first), head(plain, first))
    assert (two["item_id"].isin(new) == (personal & (two["rank"] > 8))).all()


def by_rank(manifest: dict[str, Any]) -> pd.DataFrame:
    lists = table(manifest, "recommendations").sort_values(["user_id", "rank"])
    return lists.reset_index(drop=True)


def head(lists: pd.DataFrame, first: int) -> pd.DataFrame:
    columns = ["user_id", "rank", "item_id", "score", "source"]
    return lists.loc[lists["rank"] <= first, columns].reset_index(drop=True)


def test_published_embeddings_are_the_sums_of_published_features(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    manifest = run("train", input=source, training=TRAINING, features=tables(tmp_path))
    folder = model_folder(manifest)
    record = json.loads((folder / "manifest.json").read_text())
    prepared = tmp_path / "out/features" / record["features"]["features_id"]
    for kind, vectors in (("items", load_items(folder)), ("users", load_users(folder))):
        learned = pd.read_parquet(folder / f"{kind[:-1]}_features").set_index("name")
        rows = pd.read_parquet(prepared / kind)
        rows["name"] = rows["group"] + "=" + rows["value"]
        cold = vectors.ids.filter(pa.array(~vectors.trained)).to_pylist()
        assert len(cold) == 4
        for one in cold:
            own = rows[rows["id"] == one]
            shares = own["weight"].to_numpy() / (own["weight"].sum() + 1)
            sums = shares @ np.stack(learned.loc[own["name"], "embedding"].to_list())
            at = vectors.ids.to_pylist().index(one)
            np.testing.assert_allclose(vectors.embeddings[at], sums, atol=1e-6)
            bias = shares @ learned.loc[own["name"], "bias"].to_numpy()
            assert vectors.biases[at] == pytest.approx(bias, abs=1e-6)
    counts = record["features"]["items"]
    weights = counts.pop("weights"), counts.pop("edges"), counts.pop("normalised")
    assert weights == ({"parity": 1.0, "tags": 1.0}, {}, True)
    assert counts.pop("identity")
    assert counts == {
        "way": "trained",
        "inside": ["parity", "tags"],
        "explained": None,
        "features": 7,
        "untrained_features": 0,
        "identities": 40,
        "cold": 4,
        "undescribed": 0,
    }


def test_tables_of_features_have_the_columns_and_keys_that_the_reference_says(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    rows = [*item_rows(), "x,even,more,values"]
    manifest = run("train", input=source, features=tables(tmp_path, rows))
    reference = generate_docs.described_tables()
    [prepared] = (tmp_path / "out/features").glob("*")
    model = model_folder(manifest)
    for name, places in {
        "model_features": (model / "item_features", model / "user_features"),
        "feature_rows": (prepared / "items", prepared / "users"),
        "feature_values": (prepared / "item_values", prepared / "user_values"),
        "feature_rejects": (prepared / "rejects",),
    }.items():
        for place in places:
            found = pd.concat(pd.read_parquet(file) for file in place.glob("*.parquet"))
            assert len(found)
            assert list(found) == list(reference[name]["columns"])
            nulls = {column for column in found if found[column].isna().any()}
            assert nulls <= set(reference[name]["nullable"])
            if reference[name]["key"]:
                assert not found.duplicated(reference[name]["key"]).any()


def test_any_order_and_partitions_of_features_give_the_same_model(
    spark: SparkSession, run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    read = {kind: one for kind, one in tables(tmp_path).items() if kind not in ALL}
    lines = {kind: (tmp_path / f"{kind}.csv").read_text().splitlines() for kind in read}
    found = []
    for n in (1, 2, 7):
        features: dict[str, Any] = {**ALL}
        for kind, [(name, settings)] in {kind: one.items() for kind, one in read.items()}.items():
            header, *rows = (line.split(",") for line in lines[kind])
            random.Random(n).shuffle(rows)
            path = str(tmp_path / f"{kind}{n}")
            frame = spark.createDataFrame(rows, header).repartition(n)
            frame.write.parquet(path)
            assert len([*Path(path).glob("*.parquet")]) == n
            table = {"format": "parquet", "path": path, "groups": settings["groups"]}
            features[kind] = {name: table}
        manifest = run("train", run_id=f"r{n}", input=source, training=TRAINING, features=features)
        folder = model_folder(manifest)
        made = [load_items(folder), load_users(folder)]
        learned = [pd.read_parquet(folder / f"{kind}_features") for kind in ("item", "user")]
        found.append((made, learned))
    for made, learned in found[1:]:
        for first, other in zip(found[0][0], made, strict=True):
            assert first.ids == other.ids
            assert np.array_equal(first.trained, other.trained)
            assert np.array_equal(first.embeddings, other.embeddings)
            assert np.array_equal(first.biases, other.biases)
        for before, after in zip(found[0][1], learned, strict=True):
            assert list(before["name"]) == list(after["name"])
            assert np.array_equal(np.stack(before["embedding"]), np.stack(after["embedding"]))
            assert before["bias"].equals(after["bias"])


def test_a_retry_with_other_features_makes_another_model_and_with_the_same_the_same(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    features = tables(tmp_path)
    root = str(tmp_path / "out")
    first = run("train", input=source, training=TRAINING, features=features)
    for record in (tmp_path / "out/runs").glob("*/manifest.json"):
        record.unlink()  # as if it had been stopped before it could say that it was complete
    same = run("train", root=root, input=source, training=TRAINING, features=features)
    assert same["model_id"] == first["model_id"]
    for record in (tmp_path / "out/runs").glob("*/manifest.json"):
        record.unlink()
    changed = tables(tmp_path, item_rows(43))
    other = run("train", root=root, input=source, training=TRAINING, features=changed)
    assert other["model_id"] != first["model_id"]
    assert len(load_items(model_folder(other)).ids) == 43


def test_a_model_with_features_is_evaluated(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    manifest = run("evaluate", input=source, training=TRAINING, features=tables(tmp_path))
    ndcg = [m for m in manifest["metrics"] if m["metric"] == "ndcg" and m["model"] == "model"]
    assert ndcg[0]["value"] > 0


def test_somebody_described_by_features_gets_the_list_of_a_cold_user(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    features = tables(tmp_path)
    users = tmp_path / "who.csv"
    users.write_text("user_id\nu030\n")
    cohort = {"users": {"path": str(users), "options": {"header": True}}}
    manifest = run(input=source, training=TRAINING, cohort=cohort, features=features, **LIKED)
    batch = table(manifest, "recommendations").sort_values("rank")
    model = LocalModel.load(model_folder(manifest))
    found = model.recommend_described({"parity=even": 1.0})
    assert list(found["item_id"]) == list(batch["item_id"])
    assert np.array_equal(found["score"].to_numpy(), batch["score"].to_numpy(np.float32))
    assert set(found["source"]) == {"features"}
    assert model.feature_names({"parity": " EVEN "}) == ["parity=even"]
    assert model.unknown_features(["parity=even", "parity=both"]) == ["parity=both"]
    assert set(model.recommend_described({"parity=both": 1.0})["source"]) == {"popular"}
    with pytest.raises(ConfigError, match="has the weight 0, expected above 0"):
        model.recommend_described({"parity=even": 0})

    config = ["--set", f"root={tmp_path / 'out'}", "--model", "latest"]
    ran = CliRunner().invoke(main, ["recommend", *config, "--features", "parity=even"])
    assert ran.exit_code == 0
    assert f"   1  {batch['item_id'].iloc[0]}" in ran.output
    for given, message in (
        (["--features", "parity"], "expected group=value"),
        (["--features", "parity=even,parity=odd"], "each group once"),
        ([], "found neither, expected one of them"),
    ):
        ran = CliRunner().invoke(main, ["recommend", *config, *given])
        assert ran.exit_code == 2
        assert message in ran.output


def test_a_model_without_features_says_so(run: Run, source: dict[str, Any]) -> None:
    model = LocalModel.load(model_folder(run("train", input=source)))
    with pytest.raises(
        ConfigError, match=r"has no features of users; train it with features\.users"
    ):
        model.recommend_described({"a=b": 1.0})


def test_features_of_nobody_in_the_training_are_refused(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    features = tables(tmp_path, ["x1,even,a|b", "x2,even,a|b"])
    with pytest.raises(InputError, match=r"features\.items: none of the 2 items .*such as x1"):
        run("train", input=source, features=features)
    rare = tables(tmp_path, ["i001,a,b", "i002,c,d"])
    rare["items"]["shop"]["groups"] = {"parity": {}}
    with pytest.raises(InputError, match=r"features\.items: found no value that enough ids have"):
        run("train", run_id="r2", input=source, features=rare)


def test_a_group_may_be_called_like_a_secret_and_is_part_of_the_identity() -> None:
    def model_of(count: int) -> Config:
        group = {"authors": {"min_count": count}}
        return Config.model_validate({"features": {"items": {"private": {"groups": group}}}})

    assert model_of(2).fingerprint("features") != model_of(3).fingerprint("features")
    public = model_of(2).public()["features"]["items"]["private"]["groups"]["authors"]
    assert public["min_count"] == 2


def test_items_that_have_nothing_but_features_are_no_neighbours(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    features = tables(tmp_path)
    trained = run("train", input=source, training=TRAINING, features=features)
    found = run("similar-items", run_id="s", model_id=trained["model_id"], features=features)
    lists = table(found, "similar_items")
    cold = {f"i{k:03}" for k in range(40, 44)}
    assert len(lists)
    assert not (set(lists["item_id"]) | set(lists["neighbour_id"])) & cold
    users = run("similar-users", run_id="u", model_id=trained["model_id"], features=features)
    assert len(table(users, "similar_users"))
    included = {**features, "cold_items": "include"}
    wanted = run("similar-items", run_id="w", model_id=trained["model_id"], features=included)
    assert cold <= set(table(wanted, "similar_items")["item_id"])


@pytest.mark.parametrize("fold_in", ["new", "all"])
def test_who_is_described_and_likes_something_gets_a_list_of_both(
    run: Run, source: dict[str, Any], tmp_path: Path, fold_in: str
) -> None:
    users = tmp_path / "who.json"
    # Known to nobody, described alone, and in the training, all of whom like the same items.
    asked = [{"id": who, "likes": ["i001", "i003"]} for who in ("stranger", "u030", "u001")]
    users.write_text("\n".join(json.dumps(one) for one in asked) + "\n")
    cohort = {
        "users": {"format": "json", "path": str(users), "column": "id", "liked": "likes"},
    }
    features = tables(tmp_path)
    manifest = run(
        input=source,
        training=TRAINING,
        cohort=cohort,
        features=features,
        scoring={"fold_in": fold_in},
        **LIKED,
    )
    lists = table(manifest, "recommendations").sort_values(["user_id", "rank"])
    own = dict(iter(lists.groupby("user_id")))
    assert set(own["u030"]["source"]) == {"fold_in"}
    folder = model_folder(manifest)
    items, known = load_items(folder), load_users(folder)
    fitted = load_fold_in(folder)
    rows = [items.ids.to_pylist().index(item) for item in ("i001", "i003")]
    ones = np.ones(2, np.float32)
    indptr, liked = np.array([0, 2], np.int64), np.array(rows, np.int32)
    vector = known.embeddings[known.ids.to_pylist().index("u030")]
    folded = fold_in_kernel(fitted, items.embeddings, indptr, liked, ones)
    both = with_features(folded, vector[None], indptr, ones)
    matrix = ItemMatrix(
        items.embeddings,
        (items.biases * np.float32(fitted.bias_scale)).astype(np.float32),
        allowed=items.trained,
    )

    def expected(vectors: Any) -> list[str]:
        ranked = top_k(matrix, vectors, np.zeros(1, np.float32), 10, indptr, liked)
        return [items.ids[row].as_py() for row in ranked.items.tolist()]

    assert list(own["u030"]["item_id"]) == expected(both)
    assert list(own["stranger"]["item_id"]) == expected(folded)
    if fold_in == "all":  # what the model has learned of somebody has no part in it
        assert set(own["u001"]["source"]) == {"fold_in"}
