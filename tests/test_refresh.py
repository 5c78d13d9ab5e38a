"""Refreshes and warm starts by the job: what stays, who comes in, and what is refused."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from recsys.errors import ConfigError, InputError, ModelError
from recsys.flows import housekeeping
from recsys.kernel.fold_in import fold_in
from recsys.model.arrays import Vectors, load_features, load_fold_in, load_items, load_users
from recsys.model.listing import latest_model, list_models
from recsys.publishing.pointer import Pointers
from recsys.store.posix import PosixFiles
from tests.conftest import csv_input, model_folder, small_ratings, table

Run = Callable[..., dict[str, Any]]
Csv = Callable[..., str]

LIKES = {"filters": {"rating_threshold": 4.0}}
TOMORROW = dt.date(2026, 11, 25)


def manifest_of(run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model_folder(run) / "manifest.json").read_text())
    return found


def lists(run: dict[str, Any]) -> dict[str, list[str]]:
    found = table(run, "recommendations").sort_values(["user_id", "rank"])
    return {user: list(rows) for user, rows in found.groupby("user_id")["item_id"]}


def sources(run: dict[str, Any]) -> dict[str, str]:
    found = table(run, "recommendations")
    return dict(zip(found["user_id"], found["source"], strict=True))


def same(one: Vectors, other: Vectors) -> bool:
    return (
        one.ids.equals(other.ids)
        and np.array_equal(one.embeddings, other.embeddings)
        and np.array_equal(one.biases, other.biases)
    )


def vectors(found: Vectors) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    return dict(zip(found.ids.to_pylist(), found.embeddings, strict=True))


@pytest.fixture
def source(ratings_csv: Csv) -> dict[str, Any]:
    """Describe ratings of 30 users and 40 items."""
    return {"input": csv_input(ratings_csv(small_ratings())), **LIKES}


def liked_rows(run: dict[str, Any], user: str, items: Vectors) -> NDArray[np.int32]:
    """Return the rows of the items that a user likes."""
    pairs = table(run, "interactions", "pairs")
    mine = pairs.loc[(pairs["user_id"] == user) & (pairs["label"] == 1), "item_id"]
    return np.flatnonzero(np.isin(items.ids.to_pylist(), mine)).astype(np.int32)


def with_more(ratings_csv: Csv, *rows: list[object]) -> dict[str, Any]:
    return {"input": csv_input(ratings_csv([*small_ratings(), *rows], "more.csv")), **LIKES}


def test_a_refresh_with_the_same_pairs_is_the_model_with_everyone_folded_in(
    run: Run, source: dict[str, Any]
) -> None:
    trained = run("train", **source, run_id="t")
    base = trained["model_id"]
    folded = run("score", **source, run_id="s", model_id=base, scoring={"fold_in": "all"})
    refreshed = run("refresh", **source, run_id="f", model_id=base, cohort={"name": "other"})
    assert lists(refreshed) == lists(folded)
    assert set(sources(refreshed).values()) == {"model"}
    old, new = model_folder(trained), model_folder(refreshed)
    items, before, scale = load_items(new), load_items(old), load_fold_in(old).bias_scale
    assert items.ids.equals(before.ids)
    assert np.array_equal(items.embeddings, before.embeddings)
    assert np.array_equal(items.biases, before.biases * np.float32(scale))
    assert np.array_equal(items.positives, before.positives)  # type: ignore[arg-type]
    assert load_fold_in(new).bias_scale == 1
    # By hand: one user, from what they like.
    rows = liked_rows(trained, "u003", items)
    by_hand = fold_in(load_fold_in(old), before.embeddings, np.array([0, len(rows)]), rows)[0]
    assert np.array_equal(vectors(load_users(new))["u003"], by_hand)
    about = manifest_of(refreshed)
    assert about["refresh_of"] == base
    assert about["refresh"] == {
        "model_id": base,
        "pairs": int((table(trained, "interactions", "pairs")["label"] == 1).sum()),
        "users": 30,
        "new_users": 0,
        "users_left_out": 0,
        "new_items": 0,
        "waiting_items": 0,
        "waiting_pairs": 0,
        "second_view_share": None,
    }
    assert (refreshed["model_id"], refreshed["base_model_id"]) == (about["model_id"], base)
    version = json.loads(
        (Path(refreshed["outputs"]["recommendations"]["uri"].removeprefix("file:")).parent)
        .joinpath("manifest.json")
        .read_text()
    )
    assert version["model"]["refresh_of"] == base


def test_new_users_come_in_and_new_items_wait(
    run: Run, source: dict[str, Any], ratings_csv: Csv, caplog: pytest.LogCaptureFixture
) -> None:
    base = run("train", **source, run_id="t")["model_id"]
    more = with_more(
        ratings_csv,
        *[["u900", f"i{n:03}", 5, 1_000_009] for n in (0, 2, 4)],
        ["u900", "i998", 5, 1_000_009],
        ["u001", "i998", 5, 1_000_009],
        ["u901", "i999", 5, 1_000_009],  # who likes nothing that the model has
        ["u902", "i001", 1, 1_000_009],  # or nothing at all
    )
    with caplog.at_level("WARNING"):
        refreshed = run("refresh", **more, run_id="f", model_id=base)
    assert "2 items with 3 of" in caplog.text
    found = manifest_of(refreshed)["refresh"]
    assert (found["users"], found["new_users"], found["users_left_out"]) == (31, 1, 1)
    assert (found["new_items"], found["waiting_items"], found["waiting_pairs"]) == (0, 2, 3)
    ways = sources(refreshed)
    assert (ways["u900"], ways["u901"], ways["u902"]) == ("model", "popular", "popular")
    assert not {"i000", "i002", "i004"} & set(lists(refreshed)["u900"])
    positives = load_items(model_folder(refreshed)).positives
    pairs = table(refreshed, "interactions", "pairs")
    counted = pairs[pairs["label"] == 1].groupby("item_id").size()
    ids = load_items(model_folder(refreshed)).ids.to_pylist()
    assert positives is not None
    assert positives.tolist() == [counted[item] for item in ids]


def test_what_users_like_by_now_changes_their_lists(
    run: Run, source: dict[str, Any], ratings_csv: Csv
) -> None:
    """An even user who has turned to odd items gets odd ones."""
    more = {"training": {"epochs": 30, "no_components": 8}, "scoring": {"k": 40}}
    base = run("train", **source, run_id="t", **more)["model_id"]
    rows = [["u000", f"i{n:03}", 5, 1_000_009] for n in range(1, 29, 2)]
    before = run("refresh", **source, run_id="f1", model_id=base, **more)
    newer = with_more(ratings_csv, *rows)
    after = run("refresh", **newer, run_id="f2", model_id=base, **more)
    left = set(lists(after)["u000"])  # what the user has not seen by now
    assert {int(item[1:]) % 2 for item in left} == {0, 1}

    def mean_rank_of_odd(found: dict[str, Any]) -> float:
        ranked = [item for item in lists(found)["u000"] if item in left]
        return float(np.mean([n for n, item in enumerate(ranked) if int(item[1:]) % 2]))

    assert mean_rank_of_odd(after) < mean_rank_of_odd(before)


def described(folder: Path, items: int) -> dict[str, Any]:
    frame = pd.DataFrame({"id": [f"i{n:03}" for n in range(items)]})
    frame["kind"] = ["even" if n % 2 == 0 else "odd" for n in range(items)]
    frame["year"] = [1990.0 + n for n in range(items)]
    path = folder / f"items-{items}.csv"
    frame.to_csv(path, index=False)
    groups = {"kind": {}, "year": {"kind": "number", "ranges": 4}}
    table_ = {"path": str(path), "options": {"header": True}, "groups": groups}
    return {"items": {"about": table_}, "keep": "none", "cold_items": "include"}


def test_new_items_come_from_their_features_by_the_map_and_the_ranges_of_the_model(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    training = {"epochs": 20, "no_components": 8}
    trained = run(
        "train", **source, run_id="t", training=training, features=described(tmp_path, 41)
    )
    refreshed = run(
        "refresh",
        **source,
        run_id="f",
        model_id=trained["model_id"],
        training=training,
        features=described(tmp_path, 45),
    )
    found = manifest_of(refreshed)
    assert found["refresh"]["new_items"] == 4
    assert found["features"]["items"]["cold"] == 5  # i040 was there already
    edges = manifest_of(trained)["features"]["items"]["edges"]
    assert found["features"]["items"]["edges"] == edges
    items = load_items(model_folder(refreshed))
    place = {item: n for n, item in enumerate(items.ids.to_pylist())}
    before = load_features(model_folder(trained), "items")
    after = load_features(model_folder(refreshed), "items")
    assert before is not None
    assert after is not None
    assert np.array_equal(before.embeddings, after.embeddings)
    # i044 is even, and its year is in the last range of the training.
    newest = f"year={edges['year'][-1]:.15g} and above"
    assert newest in before.names
    by_hand = before.represent({"kind=even": 1.0, newest: 1.0})
    assert by_hand is not None
    np.testing.assert_allclose(items.embeddings[place["i044"]], by_hand[0], rtol=1e-5, atol=1e-7)
    assert not items.trained[place["i044"]]
    assert "i044" in {item for one in lists(refreshed).values() for item in one}


def test_a_retry_takes_up_its_own_and_never_another_model(
    run: Run, source: dict[str, Any], ratings_csv: Csv, caplog: pytest.LogCaptureFixture
) -> None:
    base = run("train", **source, run_id="t1")["model_id"]
    first = run("refresh", **source, run_id="f", model_id="latest")
    root = model_folder(first).parents[1]
    (root / "runs/f/manifest.json").unlink()
    with caplog.at_level("INFO"):
        again = run("refresh", **source, run_id="f", model_id=base)
    assert f"model {first['model_id']} is there already" in caplog.text
    assert again["model_id"] == first["model_id"]
    assert again["base_model_id"] == first["base_model_id"] == base
    # Another model under the same run id is another refresh.
    other = run("train", **source, run_id="t2", training={"seed": 1})["model_id"]
    assert other != base
    with pytest.raises(ConfigError, match="with another base model id"):
        run("refresh", **source, run_id="f", model_id=other)
    (root / "runs/f/manifest.json").unlink()
    with pytest.raises(ConfigError, match="with another model"):  # it is published already
        run("refresh", **source, run_id="f", model_id=other)
    made = [one for one in list_models(PosixFiles(root)) if one.refresh_of is not None]
    assert {one.refresh_of for one in made} == {base, other}
    assert len({one.model_id for one in made}) == 2


def test_a_retry_of_latest_keeps_to_the_model_of_the_first_attempt(
    run: Run, source: dict[str, Any]
) -> None:
    base = run("train", **source, run_id="t1")["model_id"]
    with pytest.raises(InputError, match="cannot read none"):
        run("refresh", **source, run_id="f", model_id="latest", items={"allow": {"path": "none"}})
    run("train", **source, run_id="t2")
    assert run("refresh", **source, run_id="f", model_id="latest")["base_model_id"] == base


def test_the_latest_to_refresh_is_the_latest_that_was_trained(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    base = run("train", **source, run_id="t")["model_id"]
    first = run("refresh", **source, run_id="f1", model_id="latest")
    second = run("refresh", **source, run_id="f2", model_id="latest", run_date=TOMORROW)
    assert second["base_model_id"] == base
    # A refresh of a refresh is one of the training, and the same.
    third = run("refresh", **source, run_id="f3", model_id=first["model_id"], cohort={"name": "c"})
    assert manifest_of(third)["refresh_of"] == base
    assert same(load_users(model_folder(third)), load_users(model_folder(second)))
    assert same(load_items(model_folder(third)), load_items(model_folder(second)))
    files = PosixFiles(tmp_path / "out")
    assert latest_model(files) == third["model_id"]
    assert latest_model(files, trained=True) == base
    # What a kept version needs is not waste, nor what it is a refresh of.
    found = housekeeping.find_waste(files, Pointers(files), stored=True, min_age=0)
    kept = {one.uri.rsplit("/", 1)[1]: one.why for one in found.kept}
    assert kept[base].endswith("is a refresh of it")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"filters": {"rating_threshold": 3.0}}, r"filters.rating_threshold: found 3.0, but model"),
        ({"deduplication": {"policy": "max"}}, r"deduplication.policy: found max, but model"),
        ({"training": {"loss": "logistic"}}, r"training.loss: found logistic, but model \S+ has w"),
        ({"filters": {**LIKES["filters"], "min_user_interactions": 2}}, "min_user_interactions"),
    ],
)
def test_what_cannot_be_refreshed_is_refused_before_anything_is_read(
    run: Run, source: dict[str, Any], sections: dict[str, Any], message: str, tmp_path: Path
) -> None:
    base = run("train", **source, run_id="t")["model_id"]
    with pytest.raises(ConfigError, match=message):
        run("refresh", **{**source, **sections}, run_id="f", model_id=base)
    assert nothing_was_made(tmp_path / "out")


def nothing_was_made(root: Path) -> bool:
    """Whether there is nothing but a training."""
    return (
        len(list((root / "interactions").iterdir())) == len(list((root / "models").iterdir())) == 1
    )


def test_other_ids_and_an_unknown_model_are_refused_before_anything_is_read(
    run: Run, ratings_csv: Csv, tmp_path: Path
) -> None:
    rows = [[user[1:], item[1:], *rest] for user, item, *rest in small_ratings(300)]
    numbers = {"input": csv_input(ratings_csv(rows), id_types={"user": "int", "item": "int"})}
    base = run("train", **numbers, run_id="t")["model_id"]
    text = {"input": {**numbers["input"], "id_types": {"user": "string", "item": "int"}}}
    with pytest.raises(ConfigError, match="types of the ids: found user ids string, item ids int"):
        run("refresh", **text, run_id="f", model_id=base)
    with pytest.raises(ModelError, match=f"--model: there is no model t-0000.*{base}"):
        run("refresh", **numbers, run_id="f", model_id="t-0000")
    with pytest.raises(ModelError, match="--from: there is no model t-0000"):
        run("train", **numbers, run_id="f", model_id="t-0000")
    assert nothing_was_made(tmp_path / "out")


def test_a_refresh_wants_the_features_of_its_model(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    features = described(tmp_path, 41)
    base = run("train", **source, run_id="t", features=features)["model_id"]
    expected = r"features.items: the groups: found none, but model \S+ has kind, year"
    with pytest.raises(ConfigError, match=expected):
        run("refresh", **source, run_id="f", model_id=base)


BESIDE = {"early_stopping": {"every": 1}, "second_view_rank": 6, "no_components": 4}


@pytest.mark.parametrize("kind", ["ease", "als"])
def test_a_refresh_learns_a_second_view_again_beside_items_that_stay(
    run: Run, ratings_csv: Csv, kind: str
) -> None:
    rows = small_ratings(users=80)
    source = {"input": csv_input(ratings_csv(rows)), **LIKES}
    base = run("train", **source, run_id="t", training={**BESIDE, "second_view": kind})
    rows += [[f"u{n:03}", "i001", 5, 1_000_009] for n in range(0, 60, 2)]
    more = {"input": csv_input(ratings_csv(rows, "more.csv")), **LIKES}
    ungated = {"min_to_popularity": None}  # two epochs
    found = run("refresh", **more, run_id="f", model_id=base["model_id"], gates=ungated)
    about = manifest_of(found)
    assert 0 < about["refresh"]["second_view_share"] < 1
    assert about["training"]["assembly"]["second_view"]["rank"] == 6
    new, old = load_items(model_folder(found)), load_items(model_folder(base))
    assert np.array_equal(new.embeddings[:, :4], old.embeddings[:, :4])
    scale = np.linalg.norm(new.embeddings[:, 4:]) / np.linalg.norm(old.embeddings[:, 4:])
    assert not np.allclose(new.embeddings[:, 4:], scale * old.embeddings[:, 4:], atol=1e-3)
    assert (new.history is None) == (kind == "als")
    # A user with new pairs and someone new with the same history have the same vector.
    mine = liked_rows(found, "u002", new)
    assert new.ids.to_pylist().index("i001") in mine
    fitted = load_fold_in(model_folder(found), new)
    again = fold_in(fitted, new.embeddings, np.array([0, len(mine)]), mine)[0]
    assert np.array_equal(vectors(load_users(model_folder(found)))["u002"], again)


RESUMABLE = {"resumable": True, "epochs": 3}


def test_a_warm_start_with_the_same_pairs_and_no_epochs_gives_the_same_bits(
    run: Run, source: dict[str, Any]
) -> None:
    first = run("train", **source, run_id="t", training=RESUMABLE)
    again = run(
        "train",
        **source,
        run_id="w",
        model_id=first["model_id"],
        training={**RESUMABLE, "epochs_from": 0},
    )
    old, new = model_folder(first), model_folder(again)
    assert again["model_id"] != first["model_id"] == again["base_model_id"]
    assert same(load_users(old), load_users(new))
    assert same(load_items(old), load_items(new))
    about = manifest_of(again)
    assert about["warm_start"] == {
        "model_id": first["model_id"],
        "epochs_before": 3,
        **{"users": 30, "new_users": 0, "gone_users": 0},
        **{"items": 40, "new_items": 0, "gone_items": 0},
    }
    assert about["refresh_of"] is None
    assert about["training"]["early_stopping"] is None
    # What was kept is the same, too.
    for name in ("user_state", "item_state", "training_state"):
        one, other = (pd.read_parquet(folder / name) for folder in (old, new))
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_warm_start_goes_on_as_if_the_training_had_not_stopped(
    run: Run, source: dict[str, Any]
) -> None:
    """The last state is that of five epochs; a user is half as trained, and half folded in."""
    plain = {"resumable": True, "ema_decay": 0.0}
    whole = run("train", **source, run_id="t5", training={**plain, "epochs": 5})
    part = run("train", **source, run_id="t3", training={**plain, "epochs": 3})["model_id"]
    rest = {**plain, "epochs_from": 2}
    found = run("train", **source, run_id="w", model_id=part, training=rest)
    training = manifest_of(found)["training"]
    assert training["epochs"] == 5
    assert training["assembly"]["known_users"]["share_of_trained"] == 0.5
    new, old = model_folder(found), model_folder(whole)
    for name in ("user_state", "item_state"):
        one, other = (pd.read_parquet(folder / name) for folder in (new, old))
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    items = load_items(old)
    assert np.array_equal(load_items(new).embeddings, items.embeddings)
    scale = np.float32(load_fold_in(old).bias_scale)
    assert np.array_equal(load_items(new).biases, items.biases * scale)
    rows = liked_rows(whole, "u003", items)
    folded = fold_in(load_fold_in(old), items.embeddings, np.array([0, len(rows)]), rows)[0]
    half = (vectors(load_users(old))["u003"] + folded) / 2
    np.testing.assert_allclose(vectors(load_users(new))["u003"], half, rtol=1e-5, atol=1e-7)


def test_a_warm_start_learns_new_users_and_items_and_leaves_out_who_is_gone(
    run: Run, ratings_csv: Csv, source: dict[str, Any]
) -> None:
    base = run("train", **source, run_id="t", training=RESUMABLE)["model_id"]
    rows = [row for row in small_ratings() if row[0] != "u007" and row[1] != "i011"]
    rows += [["u900", "i000", 5, 1_000_009], ["u900", "i999", 5, 1_000_009]]
    path = ratings_csv(rows, "other.csv")
    found = run(
        "train", input=csv_input(path), **LIKES, run_id="w", model_id=base, training=RESUMABLE
    )
    about = manifest_of(found)["warm_start"]
    assert (about["users"], about["new_users"], about["gone_users"]) == (29, 1, 1)
    assert (about["items"], about["new_items"], about["gone_items"]) == (39, 1, 1)
    assert "u900" in load_users(model_folder(found)).ids.to_pylist()
    assert "i999" in load_items(model_folder(found)).ids.to_pylist()


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"no_components": 5}, r"training.no_components: found 5, but model \S+ has 4"),
        ({"loss": "bpr"}, r"training.loss: found bpr, but model \S+ has warp"),
        ({"learning_schedule": "adadelta"}, r"training.learning_schedule: found adadelta"),
    ],
)
def test_a_warm_start_with_another_shape_is_refused_before_anything_is_read(
    run: Run, source: dict[str, Any], training: dict[str, Any], message: str, tmp_path: Path
) -> None:
    base = run("train", **source, run_id="t", training=RESUMABLE)["model_id"]
    with pytest.raises(ConfigError, match=message):
        run("train", **source, run_id="w", model_id=base, training={**RESUMABLE, **training})
    assert nothing_was_made(tmp_path / "out")


def test_a_warm_start_wants_what_only_a_resumable_training_keeps(
    run: Run, source: dict[str, Any]
) -> None:
    trained = run("train", **source, run_id="t")
    assert manifest_of(trained)["tables"]["user_state"] is None
    with pytest.raises(ConfigError, match="has not kept what LightFM needs to go on"):
        run("train", **source, run_id="w", model_id=trained["model_id"])
    refreshed = run("refresh", **source, run_id="f", model_id="latest")["model_id"]
    with pytest.raises(ConfigError, match="is a refresh of"):
        run("train", **source, run_id="w", model_id=refreshed)


def test_a_warm_start_of_a_model_that_learned_with_features_is_refused(
    run: Run, source: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = {**source, "training": RESUMABLE}
    features = {**described(tmp_path, 41), "keep": "all"}
    with caplog.at_level("WARNING"):
        base = run("train", **given, run_id="t", features=features)["model_id"]
    assert "nothing is kept for it" in caplog.text
    with pytest.raises(ConfigError, match="has learned with features"):
        run("train", **given, run_id="w", model_id=base, features=features)


def test_a_warm_start_fits_the_map_of_features_anew(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    given = {**source, "training": RESUMABLE, "features": described(tmp_path, 41)}
    base = run("train", **given, run_id="t")["model_id"]
    found = manifest_of(run("train", **given, run_id="w", model_id=base))
    assert found["features"]["items"]["way"] == "mapped"
    assert found["features"]["items"]["cold"] == 1


def test_a_retry_of_a_warm_start_takes_up_its_own_and_no_training_from_nothing(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    given = {**source, "training": RESUMABLE}
    base = run("train", **given, run_id="t")["model_id"]
    record = tmp_path / "out/runs/w/manifest.json"
    plain = run("train", **given, run_id="w")["model_id"]
    with pytest.raises(ConfigError, match="with another base model id"):
        run("train", **given, run_id="w", model_id=base)
    record.unlink()
    warm = run("train", **given, run_id="w", model_id=base)["model_id"]
    assert warm != plain
    with pytest.raises(ConfigError, match="with another base model id"):
        run("train", **given, run_id="w")
    record.unlink()
    assert run("train", **given, run_id="w", model_id=base)["model_id"] == warm


def test_a_damaged_state_is_found_before_it_is_used_and_scoring_does_without(
    run: Run, source: dict[str, Any]
) -> None:
    given = {**source, "training": RESUMABLE}
    trained = run("train", **given, run_id="t")
    for path in (model_folder(trained) / "user_state").glob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    run("score", **given, run_id="s", model_id=trained["model_id"])
    with pytest.raises(ModelError, match=r"SHA-256 of user_state/"):
        run("train", **given, run_id="w", model_id=trained["model_id"])
