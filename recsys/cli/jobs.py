"""Commands that start Spark: what spark-submit runs as well."""

import datetime as dt
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from recsys.cli.group import main
from recsys.cli.options import FORCE, JSON, MODEL, OPTIONS, for_command, with_options

if TYPE_CHECKING:
    from recsys.flows.execution import Act, Command


def _execute(
    choose: Callable[[Any], "Command"],
    given: dict[str, Any],
    act: Callable[[], "Act"] | None = None,
) -> NoReturn:
    """Run a command that needs Spark, and end the process with its exit status.

    Args:
        choose: returns the command, from the module `recsys.flows.commands`.
        given: the command line.
        act: returns what to do with the command instead of running it.
    """
    from recsys.runtime import signals

    signals.listen()  # before everything else is loaded, which takes seconds
    from recsys.flows import commands
    from recsys.flows.execution import Options, execute

    day: dt.datetime | None = given.pop("run_date")
    options = Options(**given, run_date=day.date() if day else None)
    status = execute(choose(commands), options, None if act is None else act())
    signals.ignore()
    sys.exit(status)


@main.command()
@with_options([*OPTIONS, FORCE, JSON])
def run(**given: Any) -> None:
    """Prepare, train and score."""
    _execute(lambda commands: commands.run_command(), given)


@main.command()
@click.option(
    "--from",
    "from_model",
    metavar="MODEL",
    help="Go on from this model, an id or latest, for training.epochs_from epochs.",
)
@with_options([*OPTIONS, JSON])
def train(from_model: str | None, **given: Any) -> None:
    """Prepare the ratings and train a model."""
    _execute(lambda commands: commands.train_command(from_model), given)


@main.command()
@MODEL
@with_options([*OPTIONS, FORCE, JSON])
def refresh(model_id: str, **given: Any) -> None:
    """Make lists of today's pairs with a model that was trained before, and score."""
    _execute(lambda commands: commands.refresh_command(model_id), given)


@main.command()
@MODEL
@with_options([*OPTIONS, FORCE, JSON])
def score(model_id: str, **given: Any) -> None:
    """Score a cohort with a model that was trained before."""
    _execute(lambda commands: commands.score_command(model_id), given)


@main.command()
@click.argument("kind", type=click.Choice(["items", "users", "features"]))
@MODEL
@with_options([*OPTIONS, JSON])
def similar(kind: str, model_id: str, **given: Any) -> None:
    """Write nearest neighbours of items, users or features, by the cosine of their embeddings."""
    _execute(lambda commands: commands.similar_command(kind, model_id), given)


@main.command()
@with_options([*OPTIONS, JSON])
def evaluate(**given: Any) -> None:
    """Hold pairs out, train on the rest, and measure the lists beside popularity."""
    _execute(lambda commands: commands.evaluate_command(), given)


@main.command()
@click.option(
    "--storage",
    metavar="URI",
    help="Where the trials are kept, such as sqlite:///tune.db or "
    "postgresql+psycopg2://user@host/database; default: tuning.db in a local root.",
)
@click.option(
    "--study",
    metavar="NAME",
    default="recsys",
    show_default=True,
    help="The name of the trials there; a tuning with the same name goes on with them.",
)
@with_options([*OPTIONS, JSON])
def tune(storage: str | None, study: str, **given: Any) -> None:
    """Look for better hyperparameters, and write a configuration with them."""
    _execute(lambda commands: commands.tune_command(storage, study), given)


@main.command()
@for_command("run", "train", "refresh", "score", "evaluate", "tune")
@click.option(
    "--model",
    "model_id",
    default="latest",
    show_default=True,
    help="For refresh and score: the id of the model, or latest.",
)
@JSON
@with_options(OPTIONS)
def doctor(name: str, model_id: str, as_json: bool, **given: Any) -> None:
    """Check what a command needs before it starts, and print each check with its limit."""

    def examine() -> "Act":
        from recsys.flows import doctor

        return doctor.examine(as_json=as_json)

    _execute(lambda commands: commands.named(name, model_id), given, examine)
