"""The command line: `recsys run|train|score|similar|evaluate`, also for spark-submit, `recommend`.

Each command imports its own job: `recommend` takes about a second because it never loads Spark.
"""

import datetime as dt
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from recsys import __version__

if TYPE_CHECKING:
    from jobs.runtime import Options

_CONFIG_OPTIONS = [
    click.option("--config", help="YAML file; conf/base.yaml documents every key."),
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a single key."
    ),
]
_OPTIONS = [
    *_CONFIG_OPTIONS,
    click.option(
        "--run-date",
        type=click.DateTime(["%Y-%m-%d"]),
        help="The day that the run works for; default: today (UTC).",
    ),
    click.option("--run-id", help="Name of the run; a retry with the same one goes on with it."),
    click.option("--debug", is_flag=True, help="Show tracebacks and Spark's own log."),
]


_Command = Callable[..., Any]


def _with(options: Sequence[Callable[[_Command], _Command]]) -> Callable[[_Command], _Command]:
    def add(function: _Command) -> _Command:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def _options(given: dict[str, Any]) -> "Options":
    from jobs.runtime import Options

    day: dt.datetime | None = given.pop("run_date")
    return Options(**given, run_date=day.date() if day else None)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="recsys")
def main() -> None:
    """Batch recommendations: Spark prepares and scores, LightFM learns."""


@main.command()
@_with(_OPTIONS)
def run(**given: Any) -> None:
    """Prepare, train and score."""
    from jobs import run as run_job

    sys.exit(run_job.main(_options(given)))


@main.command()
@_with(_OPTIONS)
def train(**given: Any) -> None:
    """Prepare the ratings and train a model."""
    from jobs import train as train_job

    sys.exit(train_job.main(_options(given)))


@main.command()
@click.option("--model", "model_id", required=True, help="Id of the model, as train printed it.")
@_with(_OPTIONS)
def score(model_id: str, **given: Any) -> None:
    """Score a cohort with a model that was trained before."""
    from jobs import score as score_job

    sys.exit(score_job.main(_options(given), model_id))


@main.command()
@click.argument("kind", type=click.Choice(["items", "users"]))
@click.option("--model", "model_id", required=True, help="Id of the model, as train printed it.")
@_with(_OPTIONS)
def similar(kind: str, model_id: str, **given: Any) -> None:
    """Write the nearest neighbours of items or users, by the cosine of their embeddings."""
    from jobs import similar as similar_job

    sys.exit(similar_job.main(_options(given), model_id, kind))


@main.command()
@click.option("--model", required=True, help="Id of a model under a local root, or a path to one.")
@click.option("--liked", required=True, metavar="ID,ID,...", help="Items that someone likes.")
@click.option("--k", type=click.IntRange(min=1), help="Length of the list; default: scoring.k.")
@_with(_CONFIG_OPTIONS)
def recommend(**given: Any) -> None:
    """Recommend to someone new by what they like, at once and without Spark."""
    from jobs import recommend as recommend_job

    sys.exit(recommend_job.main(**given))


@main.command()
@_with(_OPTIONS)
def evaluate(**given: Any) -> None:
    """Hold pairs out, train on the rest, and measure the lists beside popularity."""
    from jobs import evaluate as evaluate_job

    sys.exit(evaluate_job.main(_options(given)))


def command(arguments: Sequence[str]) -> None:
    """Run a command as a script under spark-submit does."""
    main(args=list(arguments), prog_name="recsys")
