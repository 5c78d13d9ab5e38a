"""Items and users that nobody has seen: how good is what features say of them?

A tenth of the items that have features, and a tenth of the users who have, are held out with all
their interactions, and so is a part of the other pairs. A model is trained without them, as the job
would, with `features.keep` as configured. Then

- the held-out items are ranked among themselves for the users who like them, beside chance and
  beside the popularity of their features: the mean number of interactions of the training's items
  that have a feature, averaged over the item's;
- they are ranked among all items for the same users and for those with other pairs to be found:
  what share of the lists they get, and what it costs, with `features.cold_items` as `include` and
  with some places reserved;
- the held-out users get lists, and are compared with popular items.

    python scripts/compare_cold.py --config conf/movietweetings-features.yaml
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # the kernel's, as on executors
    os.environ[_name] = "1"

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp
from compare_ours import fit_with_features
from compare_split import F32, read_pairs, split, with_abouts
from numpy.typing import NDArray

from recsys.columns import ITEM, USER
from recsys.config.configuration import Config
from recsys.config.reading import load_config
from recsys.errors import RecsysError
from recsys.kernel.bootstrap import difference, estimate
from recsys.kernel.metrics import accuracy
from recsys.kernel.topk import ItemMatrix, top_k
from recsys.learn.cold import LearnedFeatures
from recsys.learn.described_fit import DescribedFit
from recsys.learn.embeddings import Embeddings
from recsys.learn.features import About, Described
from recsys.runtime import memory

F64 = NDArray[np.float64]
K = 10
HELD_OUT = 0.1
OTHER_PAIRS = 0.15
PLACES = (1, 2, 3)


def described_ids(described: dict[str, Described], kind: str, ids: pd.Series) -> NDArray[Any]:
    """Return those of some ids that have a feature, ascending."""
    if kind not in described:
        return np.zeros(0, object)
    about = described[kind]
    known = about.ids.filter(pa.array(np.diff(about.weights.indptr) > 0))
    return np.sort(np.intersect1d(ids.unique(), known.to_numpy(zero_copy_only=False)))


def drawn(ids: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    return rng.permutation(ids)[: round(HELD_OUT * len(ids))]


class Split:
    """Pairs without those of some items, of some users, and some others.

    Attributes:
        data: what is trained on; `wanted` has the other pairs that are held out.
        new_items, new_users: ids that are held out.
        liked: `(n_users, len(new_items))` CSR, which of the new items users of the training like.
        likes: `(len(new_users), n_items)` CSR, what new users like.
    """

    def __init__(
        self, config: Config, pairs: pd.DataFrame, described: dict[str, Described], seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        self.new_items = np.sort(drawn(described_ids(described, "items", pairs[ITEM]), rng))
        self.new_users = np.sort(drawn(described_ids(described, "users", pairs[USER]), rng))
        of_new_item = pairs[ITEM].isin(self.new_items).to_numpy()
        of_new_user = pairs[USER].isin(self.new_users).to_numpy()
        old = ~of_new_item & ~of_new_user
        trained = rng.random(len(pairs)) >= OTHER_PAIRS
        # Users and items of the training alone: others are nobody that could be learned.
        users = pairs[USER][old & trained].unique()
        items = pairs[ITEM][old & trained].unique()
        there = pairs[USER].isin(users).to_numpy() & pairs[ITEM].isin(items).to_numpy()
        self.data = with_abouts(
            config, split(pairs[there], trained[there]), described, pairs[there]
        )
        self.users, self.items = np.sort(users), np.sort(items)
        self.liked = matrix(pairs[of_new_item], self.users, self.new_items)
        self.likes = matrix(pairs[of_new_user], self.new_users, self.items)


def matrix(pairs: pd.DataFrame, users: NDArray[Any], items: NDArray[Any]) -> sp.csr_matrix:
    """Return pairs as a matrix of some users and items; others are left out."""
    there = pairs[USER].isin(users) & pairs[ITEM].isin(items)
    rows = np.searchsorted(users, pairs[USER][there].to_numpy())
    columns = np.searchsorted(items, pairs[ITEM][there].to_numpy())
    ones = np.ones(len(rows), np.float32)
    made = sp.csr_matrix((ones, (rows, columns)), shape=(len(users), len(items)))
    made.sort_indices()
    return made


def ndcg(lists: sp.csr_matrix | Any, wanted: sp.csr_matrix) -> F64:
    found = accuracy(lists.indptr, lists.items, wanted.indptr, wanted.indices, [K])
    return np.asarray(found[K]["ndcg"])


def ranked(users: F32, items: F32, biases: F32, seen: sp.csr_matrix | None = None) -> Any:
    none = np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32)
    pairs = none if seen is None else (seen.indptr.astype(np.int64), seen.indices.astype(np.int32))
    made = ItemMatrix(np.ascontiguousarray(items), np.ascontiguousarray(biases, np.float32))
    return top_k(made, np.ascontiguousarray(users), np.zeros(len(users), np.float32), K, *pairs)


def popularity_of_features(about: About, counts: F64, ids: pa.Array) -> F32:
    """Return the mean popularity of each id's features among the items of the training."""
    known, new = about.described.rows_of(about.ids) > 0, about.described.rows_of(ids) > 0
    have = np.maximum(np.asarray(known.sum(axis=0)).ravel(), 1)
    popular = np.asarray(known.T @ counts).ravel() / have
    return np.asarray((new @ popular) / np.maximum(np.diff(new.indptr), 1), np.float32)


def among_themselves(
    found: Split, model: Embeddings, about: About, items: LearnedFeatures, seed: int
) -> dict[str, F64]:
    """Return nDCG@10 of each user's list of the new items, by how they are ranked."""
    ids = pa.array(found.new_items, about.ids.type)
    embeddings, biases, there = items.vectors_of(ids)
    liked = found.liked[:, there]
    liked.sort_indices()
    fans = np.flatnonzero(np.diff(liked.indptr))
    wanted, nothing = liked[fans], np.zeros((len(fans), 1), np.float32)
    flat = np.zeros((int(there.sum()), 1), np.float32)
    counts = np.asarray(found.data.labels.sum(axis=0), np.float64).ravel()
    popular = popularity_of_features(about, counts, ids)[there]
    chance = np.random.default_rng(seed)
    random = [
        ndcg(ranked(nothing, flat, chance.random(len(flat)).astype(np.float32)), wanted)
        for _ in range(5)
    ]
    users = model.user_embeddings[fans]
    return {
        f"features ({items.way})": ndcg(ranked(users, embeddings[there], biases[there]), wanted),
        "popularity of features": ndcg(ranked(nothing, flat, popular), wanted),
        "chance": np.mean(random, axis=0),
    }


def in_the_catalogue(
    found: Split, model: Embeddings, about: About, items: LearnedFeatures
) -> list[dict[str, Any]]:
    """Return what new items get and cost among all items, for each way to let them in."""
    embeddings, biases, there = items.vectors_of(pa.array(found.new_items, about.ids.type))
    new, n = int(there.sum()), len(model.item_biases)
    liked, wanted = found.liked[:, there], found.data.wanted
    tested = np.flatnonzero(np.diff(liked.indptr) + np.diff(wanted.indptr))
    seen = found.data.seen[tested]
    users = model.user_embeddings[tested]
    every = sp.csr_matrix(sp.hstack([wanted[tested], liked[tested]]))
    every.sort_indices()
    old = ranked(users, model.item_embeddings, model.item_biases, seen)
    best = ranked(users, embeddings[there], biases[there])
    best = replace(best, items=best.items + n)
    wide = sp.csr_matrix(sp.hstack([seen, sp.csr_matrix((len(tested), new))]))
    mixed = ranked(
        users,
        np.concatenate([model.item_embeddings, embeddings[there]]),
        np.concatenate([model.item_biases, biases[there]]),
        wide,
    )
    ways = {"exclude": old, "include": mixed}
    ways |= {f"{places}": with_places(old, best, places) for places in PLACES}
    old_alone = sp.csr_matrix(sp.hstack([wanted[tested], sp.csr_matrix((len(tested), new))]))
    new_alone = sp.csr_matrix(sp.hstack([sp.csr_matrix((len(tested), n)), liked[tested]]))
    rows = []
    for way, lists in ways.items():
        has_old, has_new = (np.diff(part.indptr) > 0 for part in (old_alone, new_alone))
        rows.append(
            {
                "cold_items": way,
                "share": float((lists.items >= n).mean()),
                "trained items": float(ndcg(lists, old_alone)[has_old].mean()),
                "new items": float(ndcg(lists, new_alone)[has_new].mean()),
                "all": float(ndcg(lists, every).mean()),
            }
        )
    return rows


def with_places(old: Any, best: Any, places: int) -> Any:
    """Return lists whose last places have new items; all lists have K items here."""
    lists = old.items.reshape(-1, K).copy()
    lists[:, K - places :] = best.items.reshape(-1, K)[:, :places]
    return replace(old, items=lists.ravel())


def new_users(found: Split, made: DescribedFit) -> dict[str, F64] | None:
    """Return nDCG@10 of new users' lists by their features, and of popular items; None without."""
    about = found.data.abouts.users
    if about is None or not len(found.new_users):
        return None
    tested = np.flatnonzero(np.diff(found.likes.indptr))
    wanted, model = found.likes[tested], made.made.embeddings
    counts = np.asarray(found.data.labels.sum(axis=0), np.float32).ravel()
    nothing = np.zeros((len(tested), 1), np.float32)
    popular = ndcg(ranked(nothing, np.zeros((len(counts), 1), np.float32), counts), wanted)
    if made.users is None:
        return {"popular items, as validation chose": popular, "popular items": popular}
    ids = pa.array(found.new_users[tested], about.ids.type)
    embeddings, _, there = made.users.vectors_of(ids)
    mine = ndcg(ranked(embeddings, model.item_embeddings, model.item_biases), wanted)
    return {
        f"features ({made.users.way})": np.where(there, mine, popular),
        "popular items": popular,
    }


def shown(title: str, by_seed: list[dict[str, F64]]) -> None:
    """Print means with intervals over the users of all seeds, and how far the first is ahead."""
    names = list(by_seed[0])
    first = names[0]
    click.echo(f"\n{title}: {', '.join(str(len(found[names[1]])) for found in by_seed)} users")
    parts = {
        name: np.concatenate([list(found.values())[n] for found in by_seed])
        for n, name in enumerate(names)
    }
    users = np.arange(len(parts[first]))
    how: dict[str, Any] = {"resamples": 1000, "seed": 42}
    for name, values in parts.items():
        mean = estimate(users, values[:, None], **how)
        line = f"  {name:40} {mean.value[0]:.4f} [{mean.low[0]:.4f}, {mean.high[0]:.4f}]"
        if name != first:
            ahead = difference(users, parts[first][:, None], values[:, None], **how)
            line += (
                f"   {first} ahead by {ahead.value[0]:+.4f} "
                f"[{ahead.low[0]:+.4f}, {ahead.high[0]:+.4f}]"
            )
        click.echo(line)


@click.command(help=__doc__)
@click.option("--config", required=True, help="A configuration with features.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--seeds", default="1,2,3", show_default=True, help="Of the splits and the models.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(config: str, overrides: tuple[str, ...], seeds: str, json_path: Path | None) -> None:
    logging.basicConfig(level=logging.WARNING)
    try:
        settings = load_config(config, overrides)
        pairs, described = read_pairs(settings)
        compare(settings, pairs, described, [int(seed) for seed in seeds.split(",")], json_path)
    except RecsysError as error:
        raise click.ClickException(str(error)) from error


def compare(
    settings: Config,
    pairs: pd.DataFrame,
    described: dict[str, Described],
    seeds: list[int],
    json_path: Path | None,
) -> None:
    threads = settings.training.threads or memory.cpus()
    items: list[dict[str, F64]] = []
    users: list[dict[str, F64]] = []
    catalogue: list[dict[str, Any]] = []
    trials = []
    for seed in seeds:
        found = Split(settings, pairs, described, seed)
        training = settings.training.model_copy(update={"seed": seed})
        made = fit_with_features(found.data, training, settings.features, threads)
        trials.append(made.trial)
        if made.trial is not None:
            click.echo(f"seed {seed}: {made.trial['reason']}")
        about = found.data.abouts.items
        if made.items is not None and about is not None:
            what = found, made.made.embeddings, about, made.items
            items.append(among_themselves(*what, seed))
            catalogue += [{"seed": seed, **row} for row in in_the_catalogue(*what)]
        of_users = new_users(found, made)
        if of_users is not None:
            users.append(of_users)
    if items:
        shown("New items among themselves, nDCG@10", items)
        table = pd.DataFrame(catalogue).drop(columns="seed").groupby("cold_items", sort=False)
        click.echo("\nIn the whole catalogue, nDCG@10 (share: of the places in lists)")
        click.echo(table.mean().round(4).to_string())
    if users:
        shown("New users, nDCG@10", users)
    if json_path:
        json_path.write_text(json.dumps({"trials": trials, "catalogue": catalogue}, indent=1))


if __name__ == "__main__":
    main()
