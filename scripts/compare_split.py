"""Any configuration's pairs, and how the comparison splits them into training and test."""

import tempfile
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from recsys.columns import ITEM, RATING, TIMESTAMP, USER
from recsys.config.configuration import Config
from recsys.config.requirements import for_training
from recsys.errors import ConfigError
from recsys.ingest.features import (
    ITEMS,
    USERS,
    PreparedFeatures,
    prepare_features,
    sources_of,
    states,
)
from recsys.ingest.preparation import prepare
from recsys.learn.described import collect_described, group_weights
from recsys.learn.features import About, Abouts, Described
from recsys.runtime import session
from recsys.runtime.run import new_run
from recsys.store.tables import Store

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Data:
    """A split of pairs.

    Attributes:
        labels: `(n_users, n_items)` COO of ones, sorted by user and item: what is trained on.
        ratings, ages: of the same pairs, for sample weights; ages in days, or None.
        seen, wanted: CSR of what is trained on, and of what is held out.
        warm, cold: users with something held out, with and without anything to train on.
        abouts: what is known of the users and items, where the configuration has features.
    """

    labels: sp.coo_matrix
    ratings: F32
    ages: F32 | None
    seen: sp.csr_matrix
    wanted: sp.csr_matrix
    warm: NDArray[np.int64]
    cold: NDArray[np.int64]
    abouts: Abouts = field(default_factory=Abouts)


def read_pairs(config: Config) -> tuple[pd.DataFrame, dict[str, Described]]:
    """Read, validate and deduplicate any configuration's input and features, as the job does."""
    # Every rating is a pair to be learned from or found; the minimum numbers still hold.
    filters = config.filters.model_copy(update={"rating_threshold": None})
    plain = config.training.model_copy(update={"loss": "warp"})
    config = config.model_copy(update={"filters": filters, "training": plain})
    if missing := list(for_training(config)):
        raise ConfigError("; ".join(missing))
    with tempfile.TemporaryDirectory(prefix="recsys-compare-") as folder:
        spark = session.start({"spark.ui.enabled": False, **config.spark})
        try:
            store = Store(spark, folder)
            with store.staging("compare") as staging:
                run = new_run("compare", None)
                found = prepare(spark, store, config, run, staging)
                types = found.manifest.id_types
                about = prepare_features(
                    spark, store, config, run, types, staging, states(spark, config)
                )
                described = {} if about is None else _described(spark, about)
                used = found.pairs.where("label != 0")
                pairs = used.select(USER, ITEM, RATING, TIMESTAMP).toArrow().to_pandas()
        finally:
            spark.stop()
    # In an order of its own: the split below depends on it, and Spark promises none.
    ordered: pd.DataFrame = pairs.sort_values([USER, ITEM], ignore_index=True)
    return ordered, described


def _described(spark: SparkSession, about: PreparedFeatures) -> dict[str, Described]:
    return {
        kind: collect_described(spark, rows, about.values[kind], kind)
        for kind, rows in about.rows.items()
    }


def read_split(config: Config, last: int | None) -> Data:
    """Read a configuration's pairs and split them: 75 % by item, or all but each user's last."""
    pairs, described = read_pairs(config)
    trained = stratified(pairs, 0.75, 42) if last is None else all_but_last(pairs, last)
    return with_abouts(config, split(pairs, trained), described, pairs)


def with_abouts(
    config: Config, data: Data, described: dict[str, Described], pairs: pd.DataFrame
) -> Data:
    """Add what is known of the users and items of some pairs."""
    found = {
        USERS: _about(config, described, USERS, pairs[USER], config.features.user_identity),
        ITEMS: _about(config, described, ITEMS, pairs[ITEM], config.features.item_identity),
    }
    return replace(data, abouts=Abouts(**found))


def _about(
    config: Config, described: dict[str, Described], kind: str, ids: pd.Series, identity: bool
) -> About | None:
    if kind not in described:
        return None
    weights = group_weights(sources_of(config, kind))
    known = pa.array(sorted(ids.unique()), described[kind].ids.type)
    return About(described[kind], known, weights, identity, config.features.normalise)


def stratified(pairs: pd.DataFrame, ratio: float, seed: int) -> NDArray[np.bool_]:
    """Return which pairs are trained on, as Recommenders 1.2's python_stratified_split by item."""
    draw = np.random.RandomState(seed).rand(len(pairs))
    item = pd.factorize(pairs[ITEM], sort=True)[0]
    order = np.lexsort((draw, item))
    counts = np.bincount(item)
    rank = np.empty(len(pairs), np.int64)
    starts = np.cumsum(counts) - counts
    rank[order] = np.arange(len(pairs)) - starts[item[order]] + 1
    trained: NDArray[np.bool_] = rank <= np.round(ratio * counts[item])
    return trained


def all_but_last(pairs: pd.DataFrame, n: int) -> NDArray[np.bool_]:
    """Return which pairs are not among their user's last n; of equal times the larger id is."""
    ordered = pairs.sort_values([USER, TIMESTAMP, ITEM])
    left = ordered.groupby(USER).cumcount(ascending=False) >= n
    return np.asarray(left.reindex(pairs.index))


def split(pairs: pd.DataFrame, trained: NDArray[np.bool_]) -> Data:
    """Turn a split into matrices."""
    users, items = (pd.factorize(pairs[name], sort=True)[0] for name in (USER, ITEM))
    shape = (int(users.max()) + 1, int(items.max()) + 1)

    def matrix(chosen: NDArray[np.bool_]) -> sp.csr_matrix:
        ones = np.ones(int(chosen.sum()), np.float32)
        made = sp.csr_matrix((ones, (users[chosen], items[chosen])), shape=shape)
        made.sort_indices()
        return made

    seen, wanted = matrix(trained), matrix(~trained)
    rows = pairs[trained]
    ages = None
    if rows[TIMESTAMP].notna().all():
        ages = ((rows[TIMESTAMP].max() - rows[TIMESTAMP]).dt.total_seconds() / 86_400).to_numpy()
        ages = ages.astype(np.float32)
    tested = np.diff(wanted.indptr) > 0
    known = np.diff(seen.indptr) > 0
    return Data(
        labels=seen.tocoo(),  # the pairs are sorted by user and item, and so are these
        ratings=rows[RATING].to_numpy(np.float32),
        ages=ages,
        seen=seen,
        wanted=wanted,
        warm=np.flatnonzero(tested & known),
        cold=np.flatnonzero(tested & ~known),
    )
