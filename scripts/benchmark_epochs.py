"""How long training takes to lists nearly as good as its best ones, before and after a change.

Two trainings are run in turn, on the same pairs, with the same pairs held out: with the settings
`--before` and with those of `--after`, both on top of the configuration's. The judge is that of
early stopping. Training is timed alone, without the judging. The table says after how many epochs
and seconds of training the nDCG first reaches a share of the best one (99 %): of the best one of
`--before`, and of the training's own best one. Seconds of the processor are of all threads
together; on a shared machine they are the ones to trust.

Without `--config` the pairs are made up in the shape of MovieLens: unevenly popular items, unevenly
active users, and tastes in several dimensions, so that there is something to learn for many epochs.
"""

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import scipy.sparse as sp
import yaml
from compare_ours import weighing
from compare_split import Data, read_split
from numpy.typing import NDArray

from recsys.config.reading import load_config
from recsys.config.sections import EarlyStopping, Training
from recsys.errors import ConfigError, RecsysError
from recsys.learn import training
from recsys.learn.features import IDENTITIES
from recsys.learn.fitting import search
from recsys.learn.sample_weights import Labelled
from recsys.runtime import memory

PAIRS_PER_USER, PAIRS_PER_ITEM = 100, 500  # as in MovieLens and its like
TASTES = 24  # dimensions of what users like and items are
STRENGTH = 2.0  # of tastes beside popularity; the standard deviation of their part of log-odds
_USERS_AT_ONCE = 512

# The defaults before the penalty followed the data.
BEFORE = ("learning_rate=0.02", "ema_growth=0", "item_alpha=0.00001", "user_alpha=0.00001")


@dataclass(frozen=True)
class Progress:
    """The course of one training, an entry for each epoch that was judged.

    Attributes:
        start: what its embeddings began with.
        epochs: their numbers.
        cpu: seconds of the processor by then, of all threads, without the judging.
        wall: seconds by then, without the judging.
        ndcg: of the held-out pairs.
    """

    start: str
    epochs: list[int]
    cpu: list[float]
    wall: list[float]
    ndcg: list[float]

    def first(self, value: float) -> int | None:
        """Return the index of the first entry whose nDCG reaches a value, or None."""
        reached = np.flatnonzero(np.array(self.ndcg) >= value)
        return int(reached[0]) if len(reached) else None


def made_up(n: int, seed: int = 1) -> sp.coo_matrix:
    """Draw about n different pairs of users and items, sorted by both.

    A user's items are drawn without replacement, each with a chance of its popularity times
    exp(what it is · what the user likes).
    """
    chance = np.random.default_rng(seed)
    n_users, n_items = max(2, n // PAIRS_PER_USER), max(50, n // PAIRS_PER_ITEM)
    active = chance.lognormal(sigma=0.9, size=n_users)
    lengths = np.clip(np.rint(active / active.sum() * n), 1, n_items // 2).astype(np.int64)
    popular = np.log(1 / (np.arange(n_items) + 20.0)).astype(np.float32)
    scale = np.sqrt(STRENGTH / np.sqrt(TASTES))
    likes = chance.standard_normal((n_users, TASTES), dtype=np.float32) * np.float32(scale)
    kinds = chance.standard_normal((n_items, TASTES), dtype=np.float32) * np.float32(scale)
    columns = list[NDArray[np.int64]]()
    for start in range(0, n_users, _USERS_AT_ONCE):
        some = slice(start, start + _USERS_AT_ONCE)
        odds = np.exp(likes[some] @ kinds.T + popular)
        # The smallest of exponential times are a draw without replacement.
        times = chance.standard_exponential(odds.shape, dtype=np.float32) / odds
        for row, length in zip(times, lengths[some], strict=True):
            columns.append(np.sort(np.argpartition(row, length)[:length]))
    cells = np.repeat(np.arange(n_users), lengths), np.concatenate(columns)
    rows, cols = (cell.astype(np.int32) for cell in cells)
    return sp.coo_matrix((np.ones(len(rows), np.float32), (rows, cols)), shape=(n_users, n_items))


def of_pairs(labels: sp.coo_matrix) -> Data:
    """Return pairs of which all are trained on, and none tested."""
    nothing = sp.csr_matrix(labels.shape, dtype=np.float32)
    none = np.empty(0, np.int64)
    return Data(labels, labels.data, None, labels.tocsr(), nothing, none, none)


def progress(data: Data, settings: Training, threads: int) -> Progress:
    """Search for the best epoch as a training does."""
    known = weighing(data, settings)
    pairs = Labelled(data.labels, known["ratings"], known["ages"])
    stopping = settings.early_stopping or EarlyStopping()
    found = search(pairs, settings, stopping, threads, IDENTITIES)
    return Progress(
        found.start, found.epochs, found.training_cpu, found.training_seconds, found.curve
    )


def with_settings(base: Training, overrides: Sequence[str]) -> Training:
    """Return settings with some of them replaced, `KEY=VALUE` below `training`.

    Raises:
        ConfigError: a key is unknown, or a value is not allowed.
    """
    if not overrides:
        return base
    values = base.model_dump(mode="json")
    for override in overrides:
        name, _, value = override.partition("=")
        *outer, last = name.split(".")
        section = values
        for key in outer:
            section = section[key]
        if last not in section:
            raise ConfigError(f"{name}: expected a key below training, found none of this name")
        section[last] = yaml.safe_load(value)
    return Training.model_validate(values)


def table(found: dict[str, Progress], share: float) -> list[str]:
    """Return the lines of the table, the last of them with ratios to the first training's."""
    head = f"{'':8}{'start':>9}{'epochs':>7}{'CPU s':>8}{'best nDCG':>11}"
    lines = [f"{head}{f'{share:.0%} of':>12}{'nDCG':>8}{'epoch':>7}{'CPU s':>8}{'wall s':>8}"]
    whole = max(found["before"].ndcg)
    cpu: dict[str, list[float]] = {"before's": [], "its own": []}
    for name, one in found.items():
        for whose, best in (("before's", whole), ("its own", max(one.ndcg))):
            at = one.first(share * best)
            cpu[whose].append(np.inf if at is None else one.cpu[at])
            lines.append(
                f"{name:8}{one.start:>9}{one.epochs[-1]:7}{one.cpu[-1]:8.1f}{max(one.ndcg):11.4f}"
                f"{whose:>12}{share * best:8.4f}"
                + (
                    "  never"
                    if at is None
                    else f"{one.epochs[at]:7}{one.cpu[at]:8.1f}{one.wall[at]:8.1f}"
                )
            )
    for whose, (before, after) in cpu.items():
        lines.append(
            f"CPU seconds to {share:.0%} of {whose} best, after / before: {after / before:.2f}"
        )
    return lines


def write_curve(path: Path, found: dict[str, Progress]) -> None:
    """Write a row for each judged epoch of each training."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["training", "epoch", "cpu_seconds", "seconds", "ndcg"])
        for name, one in found.items():
            for row in zip(one.epochs, one.cpu, one.wall, one.ndcg, strict=True):
                rows.writerow([name, row[0], *(f"{value:.4f}" for value in row[1:])])


@click.command(name="epochs", help=__doc__)
@click.option("--config", help="Any configuration: its input is what is trained on.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option(
    "--pairs",
    type=click.IntRange(min=10_000),
    default=5_000_000,
    show_default=True,
    help="That are made up, without --config.",
)
@click.option("--before", multiple=True, default=BEFORE, show_default=True, metavar="KEY=VALUE")
@click.option("--after", multiple=True, metavar="KEY=VALUE", help="As --before, below `training`.")
@click.option("--share", type=click.FloatRange(0, 1), default=0.99, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=memory.cpus, show_default="all")
@click.option("--curve", type=click.Path(path_type=Path), help="A CSV file of nDCG over seconds.")
def epochs_command(
    config: str | None,
    overrides: tuple[str, ...],
    pairs: int,
    before: tuple[str, ...],
    after: tuple[str, ...],
    share: float,
    threads: int,
    curve: Path | None,
) -> None:
    logging.basicConfig(level=logging.WARNING)
    try:
        training.check_threads(threads)
        base = load_config(config, overrides)
        data = read_split(base, None) if config else of_pairs(made_up(pairs))
        n_users, n_items = data.labels.shape
        click.echo(f"{n_users:,} users, {n_items:,} items, {data.labels.nnz:,} pairs")
        found = dict[str, Progress]()
        for name, some in (("before", before), ("after", after)):
            found[name] = progress(data, with_settings(base.training, some), threads)
            click.echo(f"{name}: {found[name].epochs[-1]} epochs", err=True)
        click.echo("\n".join(table(found, share)))
        if curve:
            write_curve(curve, found)
    except (RecsysError, ValueError) as error:
        raise click.ClickException(str(error)) from error
