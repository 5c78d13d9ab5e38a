"""How good lists in a DataFrame are, by the metrics of `recsys evaluate`. No Spark."""

from collections.abc import Iterable
from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.columns import CUT, ITEM, N_USERS, RANK, USER
from recsys.errors import ConfigError
from recsys.kernel.metrics import ACCURACY, accuracy

# What pandas calls the values of a column, in words.
_KINDS = {"number": "a number", "string": "text"}


def measure(
    lists: pd.DataFrame, relevant: pd.DataFrame, k: int | Iterable[int] = 10
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
        ConfigError: a column or an id is missing, ids are of different types in the two frames, an
            item is twice in a list, nobody is to be measured, or a k is not a number from 1.
    """
    for name, frame, wanted in (
        ("lists", lists, (USER, RANK, ITEM)),
        ("relevant", relevant, (USER, ITEM)),
    ):
        if missing := [column for column in wanted if column not in frame.columns]:
            raise ConfigError(f"{name}: found no column {', '.join(missing)}, expected it")
    ks = _cuts(k)
    for column in (USER, ITEM):
        _check_kinds(lists[column], relevant[column])
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


def _cuts(k: object) -> list[int]:
    """Return the numbers as plain ones; numpy and pandas have others."""
    if isinstance(k, np.ndarray):
        k = k.tolist()
    given = list(k) if isinstance(k, Iterable) and not isinstance(k, str) else [k]
    found = [int(one) for one in given if isinstance(one, Integral) and not isinstance(one, bool)]
    if not given or len(found) < len(given) or min(found) < 1:
        raise ConfigError(
            f"k: found {str(k)[:60]}, expected a whole number of at least 1, or several"
        )
    return found


def _check_kinds(listed: pd.Series, relevant: pd.Series) -> None:
    """Refuse ids that are equal to none of the other frame because of their type alone."""
    kinds = []
    for name, ids in (("lists", listed), ("relevant", relevant)):
        if ids.isna().any():
            raise ConfigError(f"{name}: found rows without {ids.name}, expected an id in each")
        kind = pd.api.types.infer_dtype(pd.Series(ids.unique()).astype(object))
        if kind == "mixed-integer":
            raise ConfigError(
                f"{name}: found {ids.name} of both whole numbers and text, expected one type; make "
                f'them the same, such as by {name}["{ids.name}"].astype(str)'
            )
        kinds.append("number" if kind in ("integer", "floating", "mixed-integer-float") else kind)
    before, after = (_KINDS.get(kind, kind) for kind in kinds)
    if before != after and "empty" not in kinds:
        one, other = (ids[:1].tolist()[0] for ids in (listed, relevant))
        raise ConfigError(
            f"relevant: found {relevant.name} that is {after} ({other!r}), expected {before} as in "
            f"lists ({one!r}), because no id equals one of another type; make both the same, "
            f'such as by relevant["{relevant.name}"].astype(lists["{relevant.name}"].dtype)'
        )


def _ragged(
    frame: pd.DataFrame, users: pd.Index, items: pd.Index
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lay the items of each user end to end, in the order of the frame."""
    owner = users.get_indexer(pd.Index(frame[USER]))
    order = np.argsort(owner, kind="stable")
    lengths = np.bincount(owner, minlength=len(users))
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return indptr, items.get_indexer(pd.Index(frame[ITEM]))[order].astype(np.int64)
