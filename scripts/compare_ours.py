"""This project's models on a split, as configured or chosen on a part of the training split."""

from typing import Any

import click
from compare_lists import CurvePoint, Lists, factors
from compare_split import Data

from recsys.config.sections import EarlyStopping, Features, Training, Tuning
from recsys.kernel.second_view import SecondView
from recsys.learn import assembly, fitting, studies
from recsys.learn.assembly import Assembled
from recsys.learn.described_fit import DescribedFit
from recsys.learn.embeddings import Embeddings
from recsys.learn.feature_choice import fit_described
from recsys.learn.sample_weights import Labelled
from recsys.learn.tuning import tune

_TRIALS = 12


def weighing(data: Data, settings: Training) -> dict[str, Any]:
    """Return what the policy of sample weights needs to know of each pair."""
    weights = settings.sample_weights
    return {
        "ratings": None if weights.rating == "none" else data.ratings,
        "ages": None if weights.half_life_days is None else data.ages,
    }


def fit(data: Data, settings: Training, threads: int) -> tuple[fitting.Fitted, Assembled]:
    """Train as the job does, without features."""
    return assembly.fit(data.labels, settings, threads=threads, **weighing(data, settings))


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


def of_model(model: Embeddings, second: SecondView | None = None) -> Lists:
    """Return the lists of a model, and of what makes second parts of its new users."""
    return factors(
        model.user_embeddings,
        model.item_embeddings,
        model.user_biases,
        model.item_biases,
        0 if second is None else second.nbytes,
    )


def course(name: str, seed: int, report: dict[str, Any]) -> list[CurvePoint]:
    """Return the points of a search for the best epoch, from its report."""
    judged = zip(report["epochs"], report["training_seconds"], report["curve"], strict=True)
    return [CurvePoint(name, seed, *point) for point in judged]


def choose(data: Data, base: Training, how: Tuning, threads: int) -> Training:
    """Choose on the validation part, as `recsys tune` does.

    Args:
        data: the split; its test part is not looked at.
        base: what is tried first.
        how: ranges, the number of trials (12 if it says none) and their seed. A limit of time has
            no effect, so that the choice can be repeated.
        threads: CPU threads for the epochs.
    """
    stopping = base.early_stopping or EarlyStopping()
    first = base.model_copy(update={"early_stopping": stopping})
    pairs = Labelled(data.labels, data.ratings, data.ages)
    limited = how.model_copy(update={"trials": how.trials or _TRIALS, "minutes": None})
    found = tune(pairs, first, limited, studies.in_memory(), threads=threads)
    for one in found.trials:
        nothing = "no validation nDCG"
        ndcg = nothing if one.ndcg is None else f"validation nDCG {one.ndcg:.4f}"
        values = ", ".join(f"{name} {one.values[name]}" for name in found.names)
        click.echo(f"  trial {one.number}, {one.state}: {ndcg} with {values}", err=True)
    return found.training
