"""The training loop round LightFM: the only module that knows it. It runs on the driver."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.config.sections import Training
from recsys.errors import TrainingError
from recsys.learn.early_stopping import Search, Validator, hold_out, refit_epochs
from recsys.learn.embeddings import Average, Embeddings
from recsys.learn.sample_weights import sample_weights
from recsys.runtime.signals import interruptible

log = logging.getLogger(__name__)


def has_openmp() -> bool:
    """Whether LightFM was built with OpenMP; without it, it falls back to one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own warning says no more than this function does
        import lightfm._lightfm_fast as fast

    return "no_openmp" not in str(fast.fit_warp.__module__)


def check_threads(threads: int) -> None:
    """Refuse more threads than LightFM can run.

    Raises:
        TrainingError: LightFM lacks OpenMP and more than one thread is asked for.
    """
    if threads > 1 and not has_openmp():
        raise TrainingError(
            f"training on {threads} threads needs a LightFM with OpenMP, and this one was built "
            "without; set training.threads to 1, or install lightfm-next with a compiler that has "
            "OpenMP (gcc)"
        )


@dataclass(frozen=True)
class Fitted:
    """A trained model and how it came about.

    Attributes:
        embeddings: what was learned.
        epochs: how many made it.
        report: for the manifest, in plain JSON values.
    """

    embeddings: Embeddings
    epochs: int
    report: dict[str, Any]


def fit(
    labels: sp.coo_matrix,
    settings: Training,
    *,
    threads: int,
    ratings: NDArray[np.float32] | None = None,
    ages: NDArray[np.float32] | None = None,
) -> Fitted:
    """Train for the number of epochs that does best on pairs held out for it.

    Without `early_stopping`, for `settings.epochs`. With it, a first model is trained without a
    part of the pairs until the nDCG of the rest, the mean of the last `smoothing` values, has not
    risen for `patience` epochs; the kept epoch is its best one. With `refit` a second model is
    trained on everything, for `refit_epochs`, else the first one's best state is kept, which has
    not seen the pairs held out.

    Args:
        labels: `(n_users, n_items)` COO, float32, 1 or -1, sorted by user and item.
        settings: hyperparameters.
        threads: CPU threads for the epochs.
        ratings: `(n_pairs,)` for `sample_weights.rating`.
        ages: `(n_pairs,)` days, for `sample_weights.half_life_days`.

    Raises:
        TrainingError: it cannot run as configured, the model diverged, or nothing can be held out.
    """
    weights = sample_weights(settings.sample_weights, labels.row, ratings, ages)
    if settings.early_stopping is None:
        embeddings = train(labels, settings, threads=threads, weights=weights)
        return Fitted(embeddings, settings.epochs, {})
    held_out = hold_out(labels, settings.early_stopping, settings.seed)
    keep = held_out.trained
    part = sp.coo_matrix(
        (labels.data[keep], (labels.row[keep], labels.col[keep])), shape=labels.shape
    )
    part_weights = sample_weights(
        settings.sample_weights,
        part.row,
        None if ratings is None else ratings[keep],
        None if ages is None else ages[keep],
    )
    search = Search(Validator(labels, held_out, settings.early_stopping, settings.seed), settings)
    train(part, settings, threads=threads, weights=part_weights, stop=search)
    report = search.report()
    log.info(
        "validation nDCG@%d %.4f at epoch %d of %d (popularity %.4f)",
        settings.early_stopping.k,
        report["ndcg"],
        search.epoch,
        search.epochs[-1],
        report["popularity_ndcg"],
    )
    if search.epoch == settings.epochs:
        log.warning("the last epoch was the best: training.epochs (%d) is low", settings.epochs)
    if not settings.early_stopping.refit:
        assert search.best is not None  # noqa: S101 - there was at least one epoch
        return Fitted(search.best, search.epoch, {**report, "refit_epochs": None})
    epochs = refit_epochs(search.epoch, settings.early_stopping.share)
    again = settings.model_copy(update={"epochs": epochs})
    embeddings = train(labels, again, threads=threads, weights=weights)
    return Fitted(embeddings, epochs, {**report, "refit_epochs": epochs})


def train(
    labels: sp.coo_matrix,
    settings: Training,
    *,
    threads: int,
    weights: NDArray[np.float32] | None = None,
    stop: Callable[[Embeddings], bool] | None = None,
) -> Embeddings:
    """Train a LightFM model for a given number of epochs, and return the average of its states.

    Args:
        labels: `(n_users, n_items)` COO, float32, 1 or -1; with one thread its order decides,
            with the seed, the result to the last bit.
        settings: LightFM's hyperparameters, epochs and seed.
        threads: CPU threads for the epochs.
        weights: `(n_pairs,)` how much each pair counts.
        stop: looks at the average after each epoch, and says whether it was the last.

    Raises:
        TrainingError: it cannot run as configured, or the model diverged.
    """
    check_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightfm import LightFM
    matrix = None
    if weights is not None:
        matrix = sp.coo_matrix((weights, (labels.row, labels.col)), shape=labels.shape)
    model = LightFM(
        no_components=settings.no_components,
        k=settings.k,
        n=settings.n,
        learning_schedule=settings.learning_schedule,
        loss=settings.loss,
        learning_rate=settings.learning_rate,
        rho=settings.rho,
        epsilon=settings.epsilon,
        item_alpha=settings.item_alpha,
        user_alpha=settings.user_alpha,
        max_sampled=settings.max_sampled,
        random_state=settings.seed,
    )
    if settings.loss == "logistic" and labels.data.min() > 0:
        log.warning(
            "logistic learns from negatives, and there are none: set filters.rating_threshold"
        )
    average = Average(settings.ema_decay)
    progress = tqdm(range(1, settings.epochs + 1), desc="epochs", unit="epoch", disable=None)
    for epoch in progress:
        interruptible(lambda: _run_epoch(model, labels, matrix, threads, settings))
        _check_converging(model, epoch, settings)
        current = average.add(
            Embeddings(
                user_embeddings=model.user_embeddings,
                user_biases=model.user_biases,
                item_embeddings=model.item_embeddings,
                item_biases=model.item_biases,
            )
        )
        if progress.disable:  # no terminal to draw on
            log.info("epoch %d of %d", epoch, settings.epochs)
        if stop is not None and interruptible(partial(stop, current)):
            break
    progress.close()
    return current


def _run_epoch(
    model: Any,
    labels: sp.coo_matrix,
    weights: sp.coo_matrix | None,
    threads: int,
    settings: Training,
) -> None:
    try:
        model.fit_partial(labels, sample_weight=weights, epochs=1, num_threads=threads)
    except ValueError as error:
        if "finite" not in str(error):
            raise
        raise TrainingError(_advice("a parameter is not finite", settings)) from error


def _check_converging(model: Any, epoch: int, settings: Training) -> None:
    """Stop a model that diverges: WARP at a rate of 0.25 stays finite, with scores of 4e8."""
    for name in ("item", "user"):
        embeddings = getattr(model, f"{name}_embeddings")
        biases = getattr(model, f"{name}_biases")
        longest = float(np.sqrt(np.max(np.einsum("ij,ij->i", embeddings, embeddings))))
        if not (np.isfinite(biases).all() and longest <= settings.max_embedding_norm):
            raise TrainingError(
                _advice(
                    f"after epoch {epoch} the longest {name} embedding is {longest:.3g}, above "
                    f"training.max_embedding_norm ({settings.max_embedding_norm:g})",
                    settings,
                )
            )


def _advice(found: str, settings: Training) -> str:
    advice = (
        f"training.learning_rate {min(settings.learning_rate / 5, 0.05):.3g} (now "
        f"{settings.learning_rate:g})"
        if settings.learning_schedule == "adagrad"
        else "training.learning_schedule adagrad with training.learning_rate 0.05"
    )
    return (
        f"the {settings.loss} model diverged: {found}; try {advice}, or training.item_alpha and "
        "training.user_alpha of 1e-6 to 1e-5"
    )
