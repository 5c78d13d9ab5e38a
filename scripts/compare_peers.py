"""What one could use instead of this project: implicit's ALS, and EASE."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import scipy.sparse as sp
from compare_lists import CurvePoint, K, Lists, SameForAllSeeds, factors
from compare_split import F32, Data
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping
from recsys.kernel.topk import Ranked
from recsys.learn.early_stopping import Validator, hold_out
from recsys.learn.ease import gram, inverse

EASE_ITEMS = 20_000  # its inverse is dense
EASE_TUNED_ITEMS = 4_000  # above, one inverse is enough


def ease_weights(matrix: sp.csr_matrix, ridge: float) -> F32:
    """Steck 2019, equation 8: `B = I - P / diag(P)`, with P the inverse of X'X + ridge I.

    Args:
        matrix: `(n_users, n_items)` X.
        ridge: the penalty.

    Returns:
        `(n_items, n_items)`, zeros on the diagonal; scores are X @ B.
    """
    lower = inverse(gram(matrix.T.tocsr()), ridge)
    scale = -np.diag(lower)
    weights: F32 = np.tril(lower)
    weights += np.tril(lower, -1).T
    weights /= scale
    np.fill_diagonal(weights, 0)
    return weights


def item_lists(matrix: sp.csr_matrix, weights: F32, kept: NDArray[np.int64]) -> Lists:
    """Lists of the best of `matrix @ weights`, whose columns are the items `kept`."""
    n = min(K, len(kept))

    def lists(rows: NDArray[np.int64], seen: Any) -> Ranked:
        found, lengths = [np.empty(0, np.int32)], [np.zeros(1, np.int64)]
        for start in range(0, len(rows), 512):
            some = slice(start, start + 512)
            scores = matrix[rows[some]] @ weights
            scores[seen[some][:, kept].toarray() > 0] = -np.inf
            best = np.argpartition(-scores, n - 1, axis=1)[:, :n]
            order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
            best = np.take_along_axis(best, order, axis=1)
            left = np.take_along_axis(scores, best, axis=1) > -np.inf
            found.append(kept[best[left]].astype(np.int32))
            lengths.append(left.sum(axis=1))
        items = np.concatenate(found)
        return Ranked(np.cumsum(np.concatenate(lengths)), items, np.zeros(len(items), np.float32))

    return lists


class Peers:
    """What one could use instead, tuned on the same validation part."""

    def __init__(self, data: Data, seed: int, threads: int) -> None:
        self.data, self.seed, self.threads = data, seed, threads
        self.curve: list[CurvePoint] = []  # of what was tried
        settings = EarlyStopping()
        held_out = hold_out(data.labels, settings, seed)
        self.judge = Validator(data.labels, held_out, settings, seed)
        rows, cols = data.labels.row[~held_out], data.labels.col[~held_out]
        ones = np.ones(len(rows), np.float32)
        self.part = sp.csr_matrix((ones, (rows, cols)), shape=data.labels.shape)

    def value(self, name: str, make: Callable[[], Lists]) -> float:
        """Train on the rest, and judge by the validation part."""
        start = time.perf_counter()
        lists = make()
        seconds = time.perf_counter() - start
        values = self.judge.of_lists(lists(self.judge.users, self.part[self.judge.users]))
        value = float(values.mean())
        self.curve.append(CurvePoint(name, self.seed, None, round(seconds, 3), value))
        return value

    def als(self) -> tuple[str, Callable[[int], Lists]] | None:
        """Hu, Koren & Volinsky 2008, as implicit has it."""
        try:
            from implicit.cpu.als import AlternatingLeastSquares
        except ImportError as error:
            click.echo(f"skipped implicit's ALS: {error}", err=True)
            return None

        def fit(matrix: sp.csr_matrix, n: int, alpha: float, ridge: float, seed: int) -> Lists:
            model = AlternatingLeastSquares(
                factors=n, alpha=alpha, regularization=ridge, iterations=15,
                num_threads=self.threads, random_state=seed,
            )  # fmt: skip
            model.fit(matrix, show_progress=False)
            return factors(np.asarray(model.user_factors), np.asarray(model.item_factors))

        def named(tried: tuple[int, float, float]) -> str:
            return "implicit ALS ({} factors, alpha {:g}, {:g})".format(*tried)

        best = max(
            itertools.product((32, 64, 128), (2.0, 10.0), (0.1, 10.0)),
            key=lambda tried: self.value(
                named(tried), lambda: fit(self.part, tried[0], tried[1], tried[2], self.seed)
            ),
        )
        return named(best), lambda seed: fit(self.data.seen, best[0], best[1], best[2], seed)

    def ease(self) -> tuple[str, Callable[[int], Lists]]:
        """Of the most popular items where there are too many: the rest are in no list."""
        counts = np.asarray(self.data.seen.sum(axis=0)).ravel()
        kept = np.sort(np.argsort(-counts, kind="stable")[:EASE_ITEMS])

        def fit(matrix: sp.csr_matrix, ridge: float) -> Lists:
            mine = matrix[:, kept]
            return item_lists(mine, ease_weights(mine, ridge), kept)

        ridge = 500.0
        if len(kept) <= EASE_TUNED_ITEMS:
            grid = (50.0, 100.0, 200.0, 500.0, 1000.0)
            ridge = max(
                grid,
                key=lambda tried: self.value(
                    f"EASE (ridge {tried:g})", lambda: fit(self.part, tried)
                ),
            )
        part = f", top {EASE_ITEMS:,} items" if len(counts) > EASE_ITEMS else ""
        always = SameForAllSeeds(lambda: fit(self.data.seen, ridge))
        return f"EASE (ridge {ridge:g}{part})", always
