"""How good lists in a DataFrame are, by the metrics of `recsys evaluate`. No Spark."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.columns import CUT, ITEM, N_USERS, RANK, USER
from recsys.errors import ConfigError
from recsys.kernel.metrics import ACCURACY, accuracy


def measure(
    lists: pd.DataFrame, relevant: pd.DataFrame, k: int | Sequence[int] = 10
) -> pd.DataFrame:
    """Compare lists with what users were found to like, which the model has not seen.

    Args:
        lists: `user_id`, `rank` and `item_id`; lists of other users do not count.
        relevant: `user_id` and `item_id`, a row for each held-out pair. A user without a list has
            only misses.
        k: where the lists are cut; one number or several.

    Returns:
        A row for each k: `k`, `n_users`, and the mean over the users of each of precision, recall,
        average_precision, average_precision_truncated, ndcg, reciprocal_rank and hit_rate (float64;
        `recsys.kernel.metrics` defines them).

    Raises:
        ConfigError: a column is missing, an item is twice in a list, or nobody is to be measured.
        KernelError: a k is below 1.
    """
    for name, frame, wanted in (
        ("lists", lists, (USER, RANK, ITEM)),
        ("relevant", relevant, (USER, ITEM)),
    ):
        if missing := [column for column in wanted if column not in frame.columns]:
            raise ConfigError(f"{name}: found no column {', '.join(missing)}, expected it")
    ks = [k] if isinstance(k, int) else list(k)
    users = pd.Index(relevant[USER].unique())
    if not len(users):
        raise ConfigError("relevant: found no row, expected a pair of some user at least")
    items = pd.Index(pd.concat([lists[ITEM], relevant[ITEM]]).unique())
    mine = lists[lists[USER].isin(users)]
    if mine.duplicated([USER, ITEM]).any() or mine.duplicated([USER, RANK]).any():
        raise ConfigError("lists: found an item or a rank twice in a list, expected each once")
    top = _ragged(mine.sort_values([USER, RANK]), users, items)
    found = accuracy(*top, *_ragged(relevant, users, items), ks)
    rows = [
        {
            CUT: cut,
            N_USERS: len(users),
            **{name: float(found[cut][name].mean()) for name in ACCURACY},
        }
        for cut in ks
    ]
    return pd.DataFrame(rows)


def _ragged(
    frame: pd.DataFrame, users: pd.Index, items: pd.Index
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lay the items of each user end to end, in the order of the frame."""
    owner = users.get_indexer(frame[USER])
    order = np.argsort(owner, kind="stable")
    lengths = np.bincount(owner, minlength=len(users))
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return indptr, items.get_indexer(frame[ITEM])[order].astype(np.int64)
