"""A second view of the items: factors of a closed-form linear model beside LightFM's.

LightFM learns pairs by sampling. A linear model of items sees all of them at once, and the two err
differently, so their weighted sum is often better than each. The factors are `ease.factorise`'s or
`als.factorise`'s. Both give an item matrix, and a user's factors by a map from the user's items
(`kernel.second_view`), so new users have them, too. What is tried is judged on the validation part,
and kept only where it is clearly better there.
"""

import logging
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import Training
from recsys.kernel.second_view import SecondView
from recsys.learn import als, ease
from recsys.learn.budget import Budget
from recsys.learn.early_stopping import Validator
from recsys.learn.embeddings import Embeddings
from recsys.learn.side_by_side import factor, spread

log = logging.getLogger(__name__)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Kind = Literal["ease", "als"]

_RIDGES = (100.0, 500.0, 2500.0)
_SHARES = (0.3, 0.5, 0.7, 0.85)  # of LightFM
_NARROW = 64  # factors of EASE that are tried beside those below
_RANK = 128
# In trials, more than two sweeps raised nDCG by less than 2 %, and other settings of ALS did worse
# wherever wide factors are of use.
_CONFIDENCE, _PENALTY, _SWEEPS = 10.0, 10.0, 3
_CLEAR = 1.0  # standard errors by which a second view must be ahead, as for users' vectors


@dataclass(frozen=True)
class Second:
    """A second view, as it was chosen.

    Attributes:
        kind: `ease` or `als`.
        rank: the number of factors.
        share: how much LightFM counts, see `side_by_side`.
        ridge: of EASE.
        way: how EASE gets the inverse.
        user_exponent: by which EASE weighs users, see `ease.by_activity`.
    """

    kind: Kind
    rank: int
    share: float
    ridge: float = 0.0
    way: ease.Way = "items"
    user_exponent: float = 0.0

    def as_record(self) -> dict[str, Any]:
        """Return what was chosen as plain JSON values."""
        found: dict[str, Any] = {"kind": self.kind, "rank": self.rank, "share": self.share}
        if self.kind == "ease":
            more = {"ridge": self.ridge, "way": self.way, "user_exponent": self.user_exponent}
            return {**found, **more}
        return {**found, "confidence": _CONFIDENCE, "penalty": _PENALTY, "sweeps": _SWEEPS}


@dataclass(frozen=True)
class Factors:
    """What a second view has learned.

    Attributes:
        users: `(n_users, rank)` float32.
        items: `(n_items, rank)` float32.
        view: makes the factors of other users.
    """

    users: F32
    items: F32
    view: SecondView

    def head(self, rank: int) -> "Factors":
        """Return the first factors of EASE alone."""
        assert self.view.history is not None  # noqa: S101 - of EASE
        view = SecondView(history=np.ascontiguousarray(self.view.history[:, :rank]))
        return Factors(self.users[:, :rank], self.items[:, :rank], view)

    def scaled(self, scale: float, stretch: float) -> "Factors":
        """Return the same with scores that are multiplied by a number.

        Args:
            scale: of the scores.
            stretch: of the items; users take what is left of the scale.
        """
        view, number = self.view, np.float32(scale / stretch)
        if view.gram is not None:  # made from the items' factors, which are longer now
            gram = (view.gram / np.float64(stretch) ** 2).astype(np.float32)
            view = replace(view, gram=gram, scale=view.scale * scale)
        elif view.history is not None:
            view = replace(view, history=number * view.history)
        return Factors(number * self.users, np.float32(stretch) * self.items, view)


def learn(likes: sp.csr_matrix, chosen: Second, seed: int) -> Factors:
    """Learn the factors from positive pairs, `(n_users, n_items)` CSR of ones."""
    if chosen.kind == "als":
        users, items = als.factorise(likes, chosen.rank, _CONFIDENCE, _PENALTY, _SWEEPS, seed)
        gram = als.gram(items, _PENALTY)
        return Factors(users, items, SecondView(None, gram, _CONFIDENCE, 1 + _CONFIDENCE))
    weighed = ease.by_activity(likes, chosen.user_exponent)
    history, items = ease.factorise(weighed, chosen.ridge, chosen.rank, chosen.way, seed)
    view = SecondView(history=np.ascontiguousarray(history))
    return Factors(likes @ history, np.ascontiguousarray(items), view)


def beside(
    model: Embeddings, factors: Factors, share: float, likes: sp.csr_matrix, seed: int
) -> tuple[Embeddings, SecondView]:
    """Put the factors beside a model; the scale of the scores is the model's.

    Items are scaled so that both parts count in the cosine of two items as they do in a score.

    Args:
        model: of LightFM.
        factors: of the second view.
        share: how much the model counts.
        likes: `(n_users, n_items)` CSR, the positive pairs that both were trained with.
        seed: of the sample of users that tells the spread of scores.

    Returns:
        The wider embeddings, and what makes the second part of other users.
    """
    items = model.item_embeddings
    first = spread(model.user_embeddings, items, model.item_biases, likes=likes, seed=seed)
    second = spread(factors.users, factors.items, likes=likes, seed=seed)
    stretch = (1 - share) / share * _length(items) / _length(factors.items)
    scaled = factors.scaled(factor(share, first, second), stretch)
    made = Embeddings(
        user_embeddings=np.hstack([model.user_embeddings, scaled.users]),
        user_biases=model.user_biases,
        item_embeddings=np.hstack([items, scaled.items]),
        item_biases=model.item_biases,
    )
    return made, scaled.view


def _length(vectors: F32) -> float:
    """Return the root of the mean squared length, above 0."""
    found = float(np.sqrt(np.einsum("ij,ij->", vectors, vectors, dtype=np.float64) / len(vectors)))
    return max(found, float(np.finfo(np.float32).tiny))


class Trial:
    """Second views of one model, judged on a validation part."""

    def __init__(
        self,
        model: Embeddings,
        likes: sp.csr_matrix,
        validator: Validator,
        settings: Training,
        bytes_allowed: int,
        budget: Budget,
        kept_back: float,
        growth: float,
    ) -> None:
        """Begin without any second view.

        Args:
            model: trained without the validation part, with the vectors that serve known users.
            likes: the positive pairs that it was trained with.
            validator: has the part.
            settings: which kinds to try, and the largest rank.
            bytes_allowed: memory that EASE's inverse may take.
            budget: what does not fit into it is not tried.
            kept_back: seconds that have to be left.
            growth: how many times as many pairs there are in all.
        """
        self._growth = growth
        self._budget, self._kept_back = budget, kept_back
        self._seconds: dict[tuple[Kind, int], float] = {}
        self._model, self._likes, self._validator = model, likes, validator
        self._settings = settings
        self._way = ease.way(likes.shape[0], likes.shape[1], bytes_allowed)
        self._alone = validator.by_user(model)
        self._tried: list[dict[str, Any]] = []
        self._best: tuple[Second, F64] | None = None

    def run(self) -> tuple[Second | None, dict[str, Any]]:
        """Try what `training.second_view` says, and choose.

        Returns:
            The choice, None where nothing is clearly better than the model alone, and what was
            compared, in plain JSON values.
        """
        kind, most = self._settings.second_view, self._settings.second_view_rank
        strength = 0.0
        for ridge in _RIDGES if kind != "als" else ():
            strength = max(strength, self._ease(ridge, min(_RANK, most)))
        # Where EASE does better than LightFM, ALS was never of use. Long histories make it slow.
        if kind == "als" or (kind == "auto" and strength < float(self._alone.mean())):
            found = self._als(min(_RANK, most))
            if most > _RANK and (kind == "als" or found > strength):
                self._als(most)
        return self._chosen()

    def _ease(self, ridge: float, rank: int) -> float:
        """Try EASE with one penalty; return the nDCG of its factors without LightFM."""
        exponent = self._settings.sample_weights.user_exponent
        second = Second("ease", rank, 1.0, ridge, self._way, exponent)
        factors = self._learn(second)
        if factors is None:
            return 0.0
        narrow = [self._judge(replace(second, rank=_NARROW), factors)] if rank > _NARROW else []
        return max([*narrow, self._judge(second, factors)])

    def _als(self, rank: int) -> float:
        second = Second("als", rank, 1.0)
        factors = self._learn(second)
        return 0.0 if factors is None else self._judge(second, factors)

    def _learn(self, second: Second) -> Factors | None:
        """Learn factors; None if there is no time for it now, and for doing it again at the end."""
        what = f"the second view {second.kind} of rank {second.rank}"
        shape = self._likes.shape
        if second.kind == "als":
            operations = als.operations(self._likes, second.rank, _SWEEPS)
        else:
            operations = ease.operations(shape[0], shape[1], second.rank, second.way)
        if not self._budget.affords((1 + self._growth) * operations, what, self._kept_back):
            return None
        start = time.monotonic()
        try:
            factors = learn(self._likes, second, self._settings.seed)
        except np.linalg.LinAlgError as error:
            log.warning("%s cannot be learned, and is left out: %s", what, error)
            self._tried.append({**second.as_record(), "failed": str(error)})
            return None
        self._seconds[second.kind, second.rank] = time.monotonic() - start
        return factors

    def seconds(self, second: Second | None) -> float:
        """Return about how long a second view takes on all pairs."""
        if second is None:
            return 0.0
        rank = (
            second.rank if second.kind == "als" else max(r for k, r in self._seconds if k == "ease")
        )
        return self._growth * self._seconds[second.kind, rank]

    def _judge(self, second: Second, factors: Factors) -> float:
        """Compare the factors beside the model with each share; return their nDCG alone."""
        if factors.items.shape[1] > second.rank:
            factors = factors.head(second.rank)
        second = replace(second, rank=factors.items.shape[1])
        nothing = np.zeros(len(factors.items), np.float32)
        users = factors.users[self._validator.users]
        alone = float(self._validator.of_vectors(users, factors.items, nothing).mean())
        record = {**second.as_record(), "alone_ndcg": alone, "ndcg": {}}
        for share in _SHARES:
            wide, _ = beside(self._model, factors, share, self._likes, self._settings.seed)
            values = self._validator.by_user(wide)
            record["ndcg"][f"{share:g}"] = float(values.mean())
            self._take(replace(second, share=share), values)
        del record["share"]
        self._tried.append(record)
        best = max(record["ndcg"].values())
        log.info(
            "second view %s of rank %d: validation nDCG %.4f beside LightFM, %.4f alone",
            second.kind,
            second.rank,
            best,
            alone,
        )
        return alone

    def _take(self, second: Second, values: F64) -> None:
        """Take up a second view if it is better; a wider one only if it is clearly better."""
        if self._best is None:
            self._best = second, values
            return
        wider = second.rank > self._best[0].rank
        ahead, error = _difference(values, self._best[1])
        if ahead > (error if wider else 0.0):
            self._best = second, values

    def _chosen(self) -> tuple[Second | None, dict[str, Any]]:
        if self._best is None:  # there was no time, or nothing could be learned
            return None, {"without_ndcg": float(self._alone.mean()), "tried": self._tried}
        second, values = self._best
        ahead, error = _difference(values, self._alone)
        forced = self._settings.second_view != "auto"
        clear = forced or ahead > _CLEAR * error
        report = {
            "without_ndcg": float(self._alone.mean()),
            "best": second.as_record(),
            "best_ndcg": float(values.mean()),
            "difference": ahead,
            "standard_error": error if np.isfinite(error) else None,
            "tried": self._tried,
        }
        log.info(
            "second view: %s, validation nDCG %+.4f (standard error %.4f)",
            f"{second.kind} of rank {second.rank}" if clear else "left out, not clearly better",
            ahead,
            error,
        )
        return (second if clear else None), report


def _difference(mine: F64, other: F64) -> tuple[float, float]:
    """Return the mean of a paired difference, and its standard error."""
    apart = mine - other
    if len(apart) < 2:
        return float(apart.mean()), float("inf")
    return float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(len(apart)))
