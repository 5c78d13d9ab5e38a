"""Whether early stopping keeps a good epoch, and what looking for it costs.

On the training split of scripts/compare.py a first training is run as the configuration says: it
chooses the epoch, and its time is divided into training and evaluating (whose BLAS has one thread
here, where the job's has all). A second one learns from
the whole training split, as the job's would, and each of its epochs is judged on the test split,
until none has been better for ten epochs. What the kept epoch reaches there is compared with what
the best one does; the choice has seen nothing of the test.
"""

import logging
import time
from dataclasses import dataclass

import click
import numpy as np
from compare_lists import measured
from compare_ours import of_model, weighing
from compare_split import Data, read_split

from recsys.config.reading import load_config
from recsys.config.sections import Training
from recsys.errors import ConfigError, RecsysError
from recsys.learn import fitting, training
from recsys.learn.early_stopping import refit_epochs
from recsys.learn.embeddings import Embeddings
from recsys.learn.sample_weights import sample_weights
from recsys.runtime import memory

PATIENCE = 10  # of the curve on the test split


@dataclass(frozen=True)
class Stopped:
    """What one search for the epoch cost and found.

    Attributes:
        kept: how many epochs the job would train on everything.
        epochs: how many the search took.
        training, evaluating: seconds of the search; of the second training, on everything, none.
        curve: the test split's nDCG@10 after each epoch of a training on the whole training split.
    """

    kept: int
    epochs: int
    training: float
    evaluating: float
    curve: list[float]

    @property
    def ratio(self) -> float:
        """The kept epoch's nDCG over the best epoch's."""
        return self.curve[self.kept - 1] / max(self.curve)


def stopped(data: Data, settings: Training, threads: int) -> Stopped:
    """Search for the epoch on the training split, then look at the test split.

    Raises:
        ConfigError: the configuration has no early stopping.
    """
    if settings.early_stopping is None:
        raise ConfigError(
            "training.early_stopping: found null, expected a section; set "
            "training.early_stopping.patience=10, say"
        )
    # Timed without the second training, which would make the share of evaluating smaller.
    alone = settings.early_stopping.model_copy(update={"refit": False})
    start = time.perf_counter()
    alone_settings = settings.model_copy(update={"early_stopping": alone})
    report = fitting.fit(
        data.labels, alone_settings, threads=threads, **weighing(data, settings)
    ).report
    seconds = time.perf_counter() - start
    kept = refit_epochs(int(report["kept_epoch"]), alone.share)
    curve = list[float]()

    def judge(current: Embeddings) -> bool:
        curve.append(float(measured(data, of_model(current))["ndcg"].mean()))
        since_best = len(curve) - 1 - int(np.argmax(curve))
        return len(curve) >= kept and since_best >= PATIENCE

    known = weighing(data, settings)
    weights = sample_weights(settings.sample_weights, data.labels, **known)
    # As long as it takes: the job may train on everything for more than `epochs`.
    endless = settings.model_copy(update={"epochs": 10 * max(settings.epochs, kept)})
    training.train(data.labels, endless, threads=threads, weights=weights, stop=judge)
    evaluating = float(report["seconds"])
    return Stopped(kept, int(report["epochs"][-1]), seconds - evaluating, evaluating, curve)


@click.command(name="stopping", help=__doc__)
@click.option("--config", required=True, help="Any configuration: its input is what is trained on.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--seeds", default="1", show_default=True, help="Of the models; the split has 42.")
@click.option("--last", type=click.IntRange(min=1), help="Hold out each user's last N pairs.")
def stopping_command(config: str, overrides: tuple[str, ...], seeds: str, last: int | None) -> None:
    logging.basicConfig(level=logging.WARNING)
    try:
        settings = load_config(config, overrides)
        data = read_split(settings, last)
        threads = settings.training.threads or memory.cpus()
        click.echo(
            f"{'seed':>4}{'kept':>6}{'of':>4}{'training':>11}{'evaluating':>12}{'share':>7}"
            f"{'its test nDCG':>16}{'best':>9}{'at':>4}{'ratio':>8}"
        )
        for seed in map(int, seeds.split(",")):
            chosen = settings.training.model_copy(update={"seed": seed})
            found = stopped(data, chosen, threads)
            best = int(np.argmax(found.curve))
            click.echo(
                f"{seed:4}{found.kept:6}{found.epochs:4}{found.training:9.1f} s"
                f"{found.evaluating:10.2f} s{found.evaluating / found.training:7.1%}"
                f"{found.curve[found.kept - 1]:16.4f}{found.curve[best]:9.4f}{best + 1:4}"
                f"{found.ratio:8.4f}"
            )
    except RecsysError as error:
        raise click.ClickException(str(error)) from error
