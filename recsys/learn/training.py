"""Train a LightFM model on the driver, for a given number of epochs.

No other module imports LightFM. A labelled pair of user and item gets here with its weight (see
`fitting`). With the logistic loss and no negatives in the data, unobserved items of the user join
it (`negatives`). After each epoch the model's state is added to the average of the states
(`embeddings.Average`), and that average is what is returned. The embeddings begin with random
numbers, or with a decomposition of the matrix (`spectral`).
"""

import logging
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.config.sections import Training
from recsys.errors import TrainingError
from recsys.learn import negatives, spectral
from recsys.learn.embeddings import Average, Embeddings
from recsys.learn.features import IDENTITIES, Sides
from recsys.learn.penalty import Penalties, penalties
from recsys.learn.state import Parameters, State, position
from recsys.runtime.logs import on_terminal
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


def train(
    labels: sp.coo_matrix,
    settings: Training,
    *,
    threads: int,
    weights: NDArray[np.float32] | None = None,
    features: Sides = IDENTITIES,
    stop: Callable[[Embeddings], bool] | None = None,
    accept: Callable[[Embeddings], bool] | None = None,
) -> Embeddings:
    """Train a LightFM model for a given number of epochs, and return the average of its states.

    Args:
        labels: `(n_users, n_items)` COO, float32, 1 or -1, sorted by user and item. With one thread
            the same labels, in the same order, and the same seed give the same bits.
        settings: LightFM's hyperparameters, epochs and seed.
        threads: CPU threads for the epochs.
        weights: `(n_pairs,)` how much each pair counts; None: all the same.
        features: of the users and items; the embeddings that are returned are those of features.
        stop: called with the average after each epoch; returns whether to stop.
        accept: for `settings.start` `auto`: called with the first epoch after a spectral start;
            returns False if the training is to begin again with random embeddings. None: `auto`
            is `random`.

    Raises:
        TrainingError: it cannot run as configured, or the model diverged.
    """
    return train_on(
        None,
        labels,
        settings,
        threads=threads,
        weights=weights,
        features=features,
        stop=stop,
        accept=accept,
    )[0]


def train_on(
    start: State | None,
    labels: sp.coo_matrix,
    settings: Training,
    *,
    threads: int,
    weights: NDArray[np.float32] | None = None,
    features: Sides = IDENTITIES,
    stop: Callable[[Embeddings], bool] | None = None,
    accept: Callable[[Embeddings], bool] | None = None,
) -> tuple[Embeddings, State]:
    """Train for `settings.epochs` more epochs, and return the average and what is needed to go on.

    Args:
        start: where an earlier training stopped, with a row for each user and item (or feature) of
            this one; None: nowhere. Its arrays are changed.
        labels: as for `train`.
        settings: likewise.
        threads: likewise.
        weights: likewise.
        features: likewise.
        stop: likewise.
        accept: likewise; nobody is asked where a training goes on.

    Returns:
        The average of the states, and the state after the last epoch; further epochs change both.

    Raises:
        TrainingError: as `train`.
    """
    check_threads(threads)
    penalty = penalties(settings, labels)
    settings = settings.model_copy(update=penalty._asdict())  # messages name the numbers
    per_positive = negatives.drawn_per_positive(settings, negatives.count(labels))
    examples = negatives.examples(labels, weights, per_positive, settings.seed)

    def begin(decomposed: bool) -> tuple[Any, Average]:
        model = _lightfm(settings, penalty, steps_per_pair=1 + per_positive)
        if start is not None:
            _take_up(model, start)
            kept = start.average, start.averaged
            return model, Average(settings.ema_decay, settings.ema_growth, *kept)
        if decomposed:
            interruptible(partial(_start_spectral, model, labels, features, settings))
        return model, Average(settings.ema_decay, settings.ema_growth)

    def step(model: Any, average: Average, epoch: int) -> Embeddings:
        interruptible(partial(_run_epoch, model, examples, features, epoch, threads, settings))
        _check_converging(model, epoch, settings)
        return average.add(_learned(model))

    ask = accept if start is None and may_start_spectral(settings, features) else None
    model, average = begin(settings.start == "spectral" or ask is not None)
    done = 0 if start is None else start.epochs
    last = done + settings.epochs
    progress = tqdm(
        range(done + 1, last + 1), desc="epochs", unit="epoch", disable=not on_terminal()
    )
    current = None if start is None else start.average
    epoch = done
    for epoch in progress:
        try:
            current = step(model, average, epoch)
            again = ask is not None and epoch == 1 and not interruptible(partial(ask, current))
        except TrainingError:
            if ask is None or epoch > 1:
                raise
            again = True  # the spectral start has diverged at once
        if again:
            model, average = begin(decomposed=False)
            current = step(model, average, epoch)
        if progress.disable:  # without a terminal there is no progress bar
            log.info("epoch %d of %d", epoch, last)
        if stop is not None and current is not None and interruptible(partial(stop, current)):
            break
    progress.close()
    assert current is not None  # noqa: S101 - without a state there is at least one epoch
    return current, _state(model, current, epoch, average.n_states)


_KEPT = (
    "embeddings",
    "biases",
    "embedding_gradients",
    "bias_gradients",
    "embedding_momentum",
    "bias_momentum",
)


def _take_up(model: Any, start: State) -> None:
    """Give an untrained model the state of an earlier one."""
    for side, parameters in (("user", start.users), ("item", start.items)):
        for name in _KEPT:
            setattr(model, f"{side}_{name}", getattr(parameters, name))
    model.random_state = start.generator()


def _state(model: Any, average: Embeddings, epochs: int, averaged: int) -> State:
    def parameters(side: str) -> Parameters:
        return Parameters(
            **{name: getattr(model, f"{side}_{name}") for name in _KEPT},
            average_embeddings=getattr(average, f"{side}_embeddings"),
            average_biases=getattr(average, f"{side}_biases"),
        )

    random = position(model.random_state)
    return State(parameters("user"), parameters("item"), epochs, averaged, random)


def may_start_spectral(settings: Training, features: Sides) -> bool:
    """Whether `auto` tries a spectral start: for `warp` without features, where it was measured."""
    return settings.start == "auto" and settings.loss == "warp" and features == IDENTITIES


def _learned(model: Any) -> Embeddings:
    """Return the model's arrays themselves, which the next epoch changes."""
    return Embeddings(
        user_embeddings=model.user_embeddings,
        user_biases=model.user_biases,
        item_embeddings=model.item_embeddings,
        item_biases=model.item_biases,
    )


def _start_spectral(model: Any, labels: sp.coo_matrix, features: Sides, settings: Training) -> None:
    """Give users' and items' identities the directions of `spectral`; all else stays random."""
    model.fit_partial(  # without an epoch, it draws the random embeddings
        labels,
        user_features=None if features.users is None else features.users.weights,
        item_features=None if features.items is None else features.items.weights,
        epochs=0,
    )
    found = spectral.directions(labels, settings.no_components, settings.seed)
    for embeddings, vectors, side in (
        (model.user_embeddings, found.users, features.users),
        (model.item_embeddings, found.items, features.items),
    ):
        own = np.arange(len(vectors)), np.arange(len(vectors))
        if side is not None:
            cells = side.weights[:, : side.n_identities].tocoo()
            own = cells.col, cells.row
        embeddings[own[0], : found.n] = vectors[own[1]]


def _lightfm(settings: Training, penalty: Penalties, steps_per_pair: int) -> Any:
    """Return an untrained model; LightFM applies the penalties once in each step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightfm import LightFM
    return LightFM(
        no_components=settings.no_components,
        k=settings.k,
        n=settings.n,
        learning_schedule=settings.learning_schedule,
        loss=settings.loss,
        learning_rate=settings.learning_rate,
        rho=settings.rho,
        epsilon=settings.epsilon,
        item_alpha=penalty.item_alpha / steps_per_pair,
        user_alpha=penalty.user_alpha / steps_per_pair,
        max_sampled=settings.max_sampled,
        random_state=settings.seed,
    )


def _run_epoch(
    model: Any,
    examples: Callable[[int], negatives.Examples],
    features: Sides,
    epoch: int,
    threads: int,
    settings: Training,
) -> None:
    now = examples(epoch)
    try:
        model.fit_partial(
            now.labels,
            user_features=None if features.users is None else features.users.weights,
            item_features=None if features.items is None else features.items.weights,
            sample_weight=now.weights,
            epochs=1,
            num_threads=threads,
        )
    except ValueError as error:
        if "finite" not in str(error):
            raise
        raise TrainingError(_advice("a parameter is not finite", settings)) from error


def _check_converging(model: Any, epoch: int, settings: Training) -> None:
    """Stop a model that diverges.

    Diverged models need not have numbers that are not finite: WARP with a learning rate of 0.25
    gives finite scores of 4e8.
    """
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
        f"the {settings.loss} model diverged: {found}; try {advice}, or larger "
        f"training.item_alpha and training.user_alpha (now {settings.item_alpha:.3g} and "
        f"{settings.user_alpha:.3g})"
    )
