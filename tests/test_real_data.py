"""The job on real files, each skipped where the file is not."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recsys.config.reading import load_config
from recsys.config.sections import POLICIES, POLICIES_BY_TIME, Deduplication
from recsys.errors import TooManyRejectsError
from recsys.ingest.judging import accepted, judge
from recsys.ingest.pairing import deduplicate
from recsys.ingest.source import read_ratings
from recsys.model.arrays import load_items, load_users
from tests.conftest import ROOT, completejourney, model_folder, shared_file, table

pytestmark = [pytest.mark.usefixtures("compiled"), pytest.mark.long]

Run = Callable[..., dict[str, Any]]

# Models of a few epochs, which nobody would publish: the gates say so.
POOR = {"min_coverage": None, "max_top_item": None, "min_to_popularity": None}


def sections(name: str, path: str, **more: Any) -> dict[str, Any]:
    """Return the sections of one of the project's configurations, with the file where it is."""
    config = load_config(str(ROOT / "conf" / f"{name}.yaml"))
    found = config.model_dump(exclude={"root", "spark", "training", "scoring", "gates"})
    found["input"]["path"] = path
    found["training"] = {"loss": config.training.loss}
    return {**found, **more}


def test_goodbooks_has_979478_pairs_for_every_policy_that_needs_no_time(
    spark: SparkSession,
) -> None:
    path = shared_file("goodbooks/ratings.csv")
    config = load_config(str(ROOT / "conf/goodbooks.yaml"), [f"input.path={path}"])
    raw = read_ratings(spark, config.input).rows
    began = dt.datetime.now(dt.UTC)
    rows = accepted(judge(raw, config.input, config.row_checks, began)).cache()
    assert rows.count() == 981_756
    by_pandas = pd.read_csv(path).groupby(["user_id", "book_id"])["rating"]
    conflicting = by_pandas.nunique() > 1
    assert conflicting.sum() == 633
    for policy in sorted(set(POLICIES) - set(POLICIES_BY_TIME)):
        pairs = deduplicate(rows, Deduplication.model_validate({"policy": policy}), parts=2)
        found = pairs.toPandas().set_index(["user_id", "item_id"]).sort_index()
        assert len(found) == 979_478
        expected = by_pandas.agg(policy).astype(float).sort_index()
        assert np.array_equal(found["rating"].to_numpy(), expected.to_numpy()), policy
        assert np.array_equal(found["conflicting"].to_numpy(), conflicting.sort_index().to_numpy())
    rows.unpersist()


def test_online_retail_stops_at_the_default_limit_and_passes_with_its_own(
    run: Run, tmp_path: Path
) -> None:
    path = shared_file("online-retail/onlineretail.csv.gz")
    settings = sections("online-retail", path)
    with pytest.raises(TooManyRejectsError) as caught:
        run("train", **{**settings, "row_checks": {}})
    assert "135,080 of 541,909 rows (24.9%) were rejected" in str(caught.value)
    assert "user_missing: 135,080" in str(caught.value)
    manifest = run("train", run_id="r2", **settings)
    assert manifest["counts"]["rejected_by_reason"] == {"user_missing": 135_080}
    assert manifest["counts"]["rows_accepted"] == 406_829
    rejects = table(manifest, "rejects")
    assert len(rejects) == 135_080
    pairs = table(manifest, "interactions", "pairs")
    assert pairs["user_id"].dtype == np.int32
    assert (pairs["label"] == (pairs["rating"] >= 1)).all()


def test_movietweetings_keeps_the_leading_zeros_of_its_films(run: Run, tmp_path: Path) -> None:
    lines = Path(shared_file("movietweetings/ratings.dat")).read_text().splitlines()
    some = lines[:2000] + [line for line in lines[2000:] if "::0002844::" in line]
    part = tmp_path / "ratings.dat"
    part.write_text("\n".join(some) + "\n")
    settings = sections("movietweetings", str(part), filters={}, scoring={"k": 100_000})
    found = table(run(**settings), "recommendations")
    assert "0002844" in set(found["item_id"])
    assert set(found["item_id"]) <= {line.split("::")[1] for line in some}
    assert set(found["user_id"]) == {line.split("::")[0] for line in some}


@pytest.mark.parametrize("loss", ["warp", "logistic"])
def test_lightfms_own_predict_agrees_with_the_published_scores(run: Run, loss: str) -> None:
    from lightfm import LightFM

    settings = sections("movietweetings", shared_file("movietweetings/ratings.dat"))
    settings["training"] = {"loss": loss, "no_components": 16, "epochs": 5}
    manifest = run(**settings, scoring={"k": 5}, gates=POOR)
    folder = model_folder(manifest)
    users, items = load_users(folder), load_items(folder)
    judge = LightFM(no_components=16, loss=loss)
    judge.user_embeddings, judge.user_biases = users.embeddings, users.biases
    judge.item_embeddings, judge.item_biases = items.embeddings, items.biases
    for name in ("user", "item"):  # what LightFM asks for before it predicts
        for kind, learned in (("embedding", "embeddings"), ("bias", "biases")):
            shape = getattr(judge, f"{name}_{learned}")
            for what in ("gradients", "momentum"):
                setattr(judge, f"{name}_{kind}_{what}", np.zeros_like(shape))
    found = table(manifest, "recommendations")
    found = found[found["source"] == "model"]  # others are folded in, which LightFM does not do
    assert len(found) == 5 * len(users.ids)
    predicted = judge.predict(
        pd.Index(users.ids.to_pylist()).get_indexer(found["user_id"]).astype(np.int32),
        pd.Index(items.ids.to_pylist()).get_indexer(found["item_id"]).astype(np.int32),
    )
    np.testing.assert_allclose(found["score"], predicted, rtol=1e-5, atol=1e-5)


def test_complete_journey_gives_every_household_ten_products_that_it_never_bought(
    run: Run,
) -> None:
    settings = sections("demo", completejourney("transactions"))
    manifest = run(**settings, gates=POOR)
    counts = manifest["counts"]
    assert counts["rows_read"] == 1_469_307
    assert (counts["pairs"], counts["users"], counts["items"]) == (867_688, 2_469, 68_509)
    found = table(manifest, "recommendations")
    assert found.groupby("user_id")["rank"].apply(list).map(lambda r: r == [*range(1, 11)]).all()
    assert found["user_id"].nunique() == 2_469
    bought = table(manifest, "interactions", "pairs")[["user_id", "item_id"]]
    assert len(bought) == 867_688
    assert len(found.merge(bought, on=["user_id", "item_id"])) == 0
    assert (found["user_id"].dtype, found["item_id"].dtype) == (np.int64, np.int64)
