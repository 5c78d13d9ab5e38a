"""The command line: `recsys run|train|score|evaluate`, and the same for spark-submit."""

import datetime as dt
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from jobs import evaluate as evaluate_job
from jobs import run as run_job
from jobs import score as score_job
from jobs import train as train_job
from jobs.runtime import Options
from recsys import __version__

_OPTIONS = [
    click.option("--config", help="YAML file; conf/base.yaml documents every key."),
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a single key."
    ),
    click.option(
        "--run-date",
        type=click.DateTime(["%Y-%m-%d"]),
        help="The day that the run works for; default: today (UTC).",
    ),
    click.option("--run-id", help="Name of the run; a retry with the same one goes on with it."),
    click.option("--debug", is_flag=True, help="Show tracebacks and Spark's own log."),
]


def _with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _options(given: dict[str, Any]) -> Options:
    day: dt.datetime | None = given.pop("run_date")
    return Options(**given, run_date=day.date() if day else None)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="recsys")
def main() -> None:
    """Batch recommendations: Spark prepares and scores, LightFM learns."""


@main.command()
@_with_options
def run(**given: Any) -> None:
    """Prepare, train and score."""
    sys.exit(run_job.main(_options(given)))


@main.command()
@_with_options
def train(**given: Any) -> None:
    """Prepare the ratings and train a model."""
    sys.exit(train_job.main(_options(given)))


@main.command()
@click.option("--model", "model_id", required=True, help="Id of the model, as train printed it.")
@_with_options
def score(model_id: str, **given: Any) -> None:
    """Score a cohort with a model that was trained before."""
    sys.exit(score_job.main(_options(given), model_id))


@main.command()
@_with_options
def evaluate(**given: Any) -> None:
    """Hold pairs out, train on the rest, and measure the lists beside popularity."""
    sys.exit(evaluate_job.main(_options(given)))


def command(arguments: Sequence[str]) -> None:
    """Run a command as a script under spark-submit does."""
    main(args=list(arguments), prog_name="recsys")
