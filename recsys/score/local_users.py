"""Lists for many users at once, without Spark, from tables in memory and into one."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.columns import BIAS, EMBEDDING, ITEM, SEEN, TRAINED, USER
from recsys.errors import ConfigError
from recsys.kernel.topk import Ranked
from recsys.kernel.worker import FEATURES, FOLD_IN, MODEL, POPULAR, Choice, Lists, Ragged, naming
from recsys.model.arrays import USERS, ids_for_pandas, load_table
from recsys.model.whole import SomeUsers, some_users
from recsys.score.histories import Histories, grouped
from recsys.score.local_ids import LocalIds
from recsys.score.local_left_out import LeftOut, to_fold_in
from recsys.score.local_likes import check_columns, largest, row_of, weights_of

I64 = NDArray[np.int64]

# More would hold more vectors at once, and be no quicker.
_AT_ONCE = 2_000


class LocalUsers:
    """The users of a model, loaded when first needed: the largest of its tables."""

    def __init__(
        self, folder: Path, lists: Lists, reserved: int, left_out: LeftOut | None = None
    ) -> None:
        """Take the model's directory, what makes lists, and the places for cold items.

        `left_out` finds users who are not in the model's sample; None where all are in it.
        """
        self._folder, self._lists, self._reserved = folder, lists, reserved
        self.left_out = left_out
        self._table: pa.Table | None = None

    def known(self, users: Iterable[object], k: int, *, exclude_seen: bool) -> pd.DataFrame:
        """Make lists of users whom the model has; see `LocalModel.recommend_users`."""
        if self._table is None:
            columns = [USER, TRAINED, BIAS, EMBEDDING, SEEN]
            self._table = load_table(self._folder, USERS, columns)[1]
        ids = self._ids(users, self._table.column(USER))
        had = some_users(self._table, ids, self._lists.model.embeddings.shape[1])
        folded, done = np.zeros(len(ids), np.bool_), None
        if self.left_out is not None and self.left_out.may_like(had).any():
            done = self.left_out.histories(ids, had)
        if done is not None:
            folded = ~had.trained & (np.diff(done.liked.indptr) > 0)
        if not (there := had.known | folded).all():
            missing = ids.filter(pa.array(~there)).to_pylist()
            raise ConfigError(
                f"users: the model does not have {len(missing):,} of {len(ids):,}, such as "
                f"{', '.join(map(str, missing[:3]))}; recommend_likes makes lists of what they like"
            )
        names = ids_for_pandas(ids)
        if done is None or not folded.any():
            return self.of(had, names, k, exclude_seen=exclude_seen)
        found = [self._folded(np.flatnonzero(folded), had, done, names, k, exclude_seen)]
        if not folded.all():
            others = ids.filter(pa.array(~folded))
            theirs = some_users(self._table, others, had.embeddings.shape[1])
            found.append(self.of(theirs, ids_for_pandas(others), k, exclude_seen=exclude_seen))
        place = {name: row for row, name in enumerate(names.tolist())}
        lists = pd.concat(found, ignore_index=True)
        order = np.lexsort((lists["rank"], lists[USER].map(place)))
        return lists.iloc[order].reset_index(drop=True)

    def _folded(
        self,
        rows: I64,
        had: SomeUsers,
        done: Histories,
        names: NDArray[Any],
        k: int,
        exclude_seen: bool,
    ) -> pd.DataFrame:
        """Make lists of users by what they have done."""

        def parts() -> Iterator[pd.DataFrame]:
            for at in np.array_split(rows, -(-len(rows) // _AT_ONCE)):
                frame = to_fold_in(at, had, done).assign(**{USER: names[at]})
                seen = [done.seen[i] if exclude_seen else () for i in at]
                with naming(frame, self._lists.model):
                    made = self._lists.by_fold_in(frame, self._choice(k, seen))
                yield self._frame(made, names[at], np.full(len(at), FOLD_IN, object))

        return _together(parts())

    def of(self, had: SomeUsers, ids: NDArray[Any], k: int, *, exclude_seen: bool) -> pd.DataFrame:
        """Make lists by the vectors that users have; see `LocalModel.recommend_users`."""
        ways = np.where(had.trained, MODEL, FEATURES).astype(object)

        def parts() -> Iterator[pd.DataFrame]:
            for start in range(0, len(ids), _AT_ONCE):
                at = range(start, min(start + _AT_ONCE, len(ids)))
                some = slice(at.start, at.stop)
                frame = pd.DataFrame({USER: ids[some], "bias": had.biases[some]})
                frame["embedding"] = list(had.embeddings[some])
                left_out = [had.seen[i] if exclude_seen else () for i in at]
                with naming(frame, self._lists.model):
                    made = self._lists.by_model(frame, self._choice(k, left_out))
                yield self._frame(made, ids[some], ways[some])

        return _together(parts())

    def liking(
        self, likes: pd.DataFrame, k: int, item_rows: dict[Any, int], item_ids: LocalIds
    ) -> pd.DataFrame:
        """Make lists by what users like; see `LocalModel.recommend_likes`."""
        check_columns(likes)
        codes, users = pd.factorize(likes[USER])
        if (codes < 0).any():
            raise ConfigError(f"likes: found a row without a {USER}, expected one in each")
        item_codes, items = pd.factorize(likes[ITEM])
        rows = np.array([row_of(item, item_rows, item_ids) for item in items] or [0], np.int64)
        row = np.where(item_codes < 0, -1, rows[item_codes])
        weight = weights_of(likes)
        there = row >= 0
        owner, row, weight = codes[there].astype(np.int64), row[there], weight[there]
        n = len(users)
        left_out = grouped(owner, row, n)
        like = weight > 0
        liked, weights = largest(owner[like], row[like], weight[like], n)
        has_likes = np.diff(liked.indptr) > 0
        parts = []
        for some, way in ((has_likes, FOLD_IN), (~has_likes, POPULAR)):
            for at in np.array_split(np.flatnonzero(some), max(1, int(some.sum()) // _AT_ONCE)):
                if not len(at):
                    continue
                ends = liked.indptr
                frame = pd.DataFrame(
                    {
                        USER: np.asarray(users, object)[at],
                        "embedding": None,
                        "liked": pd.Series([liked[i] for i in at], dtype=object),
                        "weights": pd.Series(
                            [weights[ends[i] : ends[i + 1]] for i in at], dtype=object
                        ),
                    }
                )
                ranker = self._lists.by_fold_in if way == FOLD_IN else self._lists.by_popularity
                with naming(frame, self._lists.model):
                    made = ranker(frame, self._choice(k, [left_out[i] for i in at]))
                parts.append(self._frame(made, at, np.full(len(at), way, object)))
        found = _together(iter(parts)).sort_values([USER, "rank"], ignore_index=True)
        found[USER] = users.take(found[USER].to_numpy(np.int64))
        return found

    def _choice(self, k: int, left_out: Sequence[Any]) -> Choice:
        return Choice(k, Ragged.of(left_out), reserved=max(0, min(self._reserved, k - 1)))

    def _frame(self, made: Ranked, users: NDArray[Any], ways: NDArray[Any]) -> pd.DataFrame:
        lengths = np.diff(made.indptr)
        first = np.repeat(made.indptr[:-1], lengths)
        cold = self._lists.is_cold(made.items)
        return pd.DataFrame(
            {
                USER: np.repeat(users, lengths),
                "rank": (np.arange(len(made.items)) - first + 1).astype(np.int32),
                ITEM: self._lists.model.ids[made.items],
                "score": made.scores,
                "source": np.where(cold, FEATURES, np.repeat(ways, lengths)),
            }
        )

    def _ids(self, users: Iterable[object], column: pa.ChunkedArray) -> pa.Array:
        if isinstance(users, str | bytes) or not isinstance(users, Iterable):
            found = f"{str(users)[:60]!r} ({type(users).__name__})"
            raise ConfigError(f"users: found {found}, expected a list of user ids")
        convert = LocalIds(pa.nulls(0, column.type))
        ids = []
        for value in users:
            user = convert.convert(value)
            if user is None:
                raise ConfigError(
                    f"users: found {str(value)[:60]!r}, expected user ids of the type "
                    f"{convert.type}"
                )
            ids.append(user)
        if len(set(ids)) != len(ids):
            raise ConfigError("users: found a user twice, expected each once")
        return pa.array(ids, column.type)


def _together(parts: Iterator[pd.DataFrame]) -> pd.DataFrame:
    found = list(parts)
    if found:
        return pd.concat(found, ignore_index=True)
    columns = [USER, "rank", ITEM, "score", "source"]
    return pd.DataFrame({name: [] for name in columns})
