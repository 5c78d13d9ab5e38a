"""This project's models on a split, as configured or chosen on a part of the training split."""

from typing import Any

import click
import numpy as np
from compare_lists import Lists, factors
from compare_split import Data

from recsys.config.sections import EarlyStopping, Features, SampleWeights, Training
from recsys.learn import fitting
from recsys.learn.described_fit import DescribedFit
from recsys.learn.embeddings import Embeddings
from recsys.learn.feature_choice import fit_described


def weighing(data: Data, settings: Training) -> dict[str, Any]:
    """Return what the policy of sample weights needs to know of each pair."""
    weights = settings.sample_weights
    return {
        "ratings": None if weights.rating == "none" else data.ratings,
        "ages": None if weights.half_life_days is None else data.ages,
    }


def fit(data: Data, settings: Training, threads: int) -> fitting.Fitted:
    """Train as the job does, without features."""
    return fitting.fit(data.labels, settings, threads=threads, **weighing(data, settings))


def fit_with_features(
    data: Data, settings: Training, features: Features, threads: int
) -> DescribedFit:
    """Train as the job does, with features."""
    return fit_described(
        data.labels,
        settings,
        features,
        data.abouts,
        threads=threads,
        **weighing(data, settings),
    )


def of_model(model: Embeddings) -> Lists:
    return factors(
        model.user_embeddings, model.item_embeddings, model.user_biases, model.item_biases
    )


def choose(data: Data, base: Training, threads: int) -> Training:
    """Choose on the validation part: regularisation and users' weights, then ratings'."""
    stopping = base.early_stopping or EarlyStopping()
    search = base.model_copy(
        update={"early_stopping": stopping.model_copy(update={"refit": False})}
    )
    best, value = search, -1.0

    def consider(alpha: float, weights: SampleWeights) -> None:
        nonlocal best, value
        tried = search.model_copy(
            update={"item_alpha": alpha, "user_alpha": alpha, "sample_weights": weights}
        )
        found = float(fit(data, tried, threads).report["ndcg"])
        click.echo(
            f"  alpha {alpha:g}, rating {weights.rating}, exponent {weights.user_exponent:g}: "
            f"validation nDCG {found:.4f}",
            err=True,
        )
        if found > value:
            best, value = tried, found

    for exponent in (0.5, 0.0):
        for alpha in (1e-5, 1e-4):
            consider(alpha, base.sample_weights.model_copy(update={"user_exponent": exponent}))
    if np.ptp(data.ratings) > 0:
        kept = best
        for rating in ("linear", "none"):
            weights = kept.sample_weights.model_copy(update={"rating": rating})
            consider(kept.item_alpha, weights)
    return best.model_copy(update={"early_stopping": stopping})
