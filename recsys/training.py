"""The training loop round LightFM: the only module that knows it. It runs on the driver."""

import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.config import Training
from recsys.errors import TrainingError
from recsys.lifecycle import interruptible

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embeddings:
    """What LightFM learned.

    A score is `user_embeddings[u] @ item_embeddings[i] + user_biases[u] + item_biases[i]`
    (Kula 2015, "Metadata Embeddings for User and Item Cold-start Recommendations", equation 1).

    Attributes:
        user_embeddings: `(n_users, no_components)` float32.
        user_biases: `(n_users,)` float32.
        item_embeddings: `(n_items, no_components)` float32.
        item_biases: `(n_items,)` float32.
    """

    user_embeddings: NDArray[np.float32]
    user_biases: NDArray[np.float32]
    item_embeddings: NDArray[np.float32]
    item_biases: NDArray[np.float32]


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


def sample_weights(labels: sp.coo_matrix, ratings: NDArray[np.float32]) -> sp.coo_matrix:
    """Return each pair's rating as its weight, scaled to a mean of one.

    LightFM multiplies a weight with the learning rate, which the scaling leaves what it is.

    Raises:
        TrainingError: a weight is not positive; a negative one would turn the gradient round.
    """
    if len(ratings) and not float(ratings.min()) > 0:
        raise TrainingError(
            f"training.sample_weights: found a rating of {float(ratings.min()):g}, expected "
            "positive ratings only; set filters.rating_threshold or validation.rating_min above 0, "
            "or sample_weights to none"
        )
    scaled = (ratings / np.mean(ratings, dtype=np.float64)).astype(np.float32)
    return sp.coo_matrix((scaled, (labels.row, labels.col)), shape=labels.shape)


def train(
    labels: sp.coo_matrix,
    settings: Training,
    *,
    threads: int,
    ratings: NDArray[np.float32] | None = None,
) -> Embeddings:
    """Train a LightFM model.

    Args:
        labels: `(n_users, n_items)` COO, float32, 1 or -1; with one thread its order decides,
            with the seed, the result to the last bit.
        settings: LightFM's hyperparameters, epochs and seed.
        threads: CPU threads for the epochs.
        ratings: of the same pairs, for `sample_weights: rating`.

    Raises:
        TrainingError: it cannot run as configured, or the model diverged.
    """
    check_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightfm import LightFM
    weights = None
    if settings.sample_weights == "rating":
        if ratings is None:
            raise TrainingError("training.sample_weights is rating, but there are no ratings")
        weights = sample_weights(labels, ratings)
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
    progress = tqdm(range(1, settings.epochs + 1), desc="epochs", unit="epoch", disable=None)
    for epoch in progress:
        interruptible(lambda: _run_epoch(model, labels, weights, threads, settings))
        _check_converging(model, epoch, settings)
        if progress.disable:  # no terminal to draw on
            log.info("epoch %d of %d", epoch, settings.epochs)
    return Embeddings(
        user_embeddings=model.user_embeddings,
        user_biases=model.user_biases,
        item_embeddings=model.item_embeddings,
        item_biases=model.item_biases,
    )


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
