"""The command line: what spark-submit runs as well, and what needs no Spark.

Each command imports its own job: those without Spark answer within about a second.
"""

import datetime as dt
import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from recsys.flows.execution import Act, Command
    from recsys.flows.manage import Place

_CONFIG_OPTIONS = [
    click.option("--config", help="YAML file; `recsys config` prints every key."),
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
    click.option(
        "--run-id",
        help="Id of the run, such as a scheduler's; a retry with the same one goes on with it.",
    ),
    click.option("--debug", is_flag=True, help="Show tracebacks and Spark's own log."),
]


_FORCE = click.option(
    "--force", is_flag=True, help="Publish although a gate fails; the manifest says which."
)

_MODEL = click.option(
    "--model",
    "model_id",
    required=True,
    help="Id of the model, as train printed it, or latest; see recsys models.",
)

_Command = Callable[..., Any]


def _with(options: Sequence[Callable[[_Command], _Command]]) -> Callable[[_Command], _Command]:
    def add(function: _Command) -> _Command:
        for option in reversed(options):
            function = option(function)
        return function

    return add


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


def _show_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked:
        from recsys.runtime.build import commit, version

        click.echo(f"recsys {version()}, commit {commit()}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and the commit.",
)
def main() -> None:
    """Batch recommendations: Spark prepares and scores, LightFM learns."""


@main.command()
@_with([*_OPTIONS, _FORCE])
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
@_with(_OPTIONS)
def train(from_model: str | None, **given: Any) -> None:
    """Prepare the ratings and train a model."""
    _execute(lambda commands: commands.train_command(from_model), given)


@main.command()
@_MODEL
@_with([*_OPTIONS, _FORCE])
def refresh(model_id: str, **given: Any) -> None:
    """Fold everyone into a trained model again, from all pairs of today, and score."""
    _execute(lambda commands: commands.refresh_command(model_id), given)


@main.command()
@_MODEL
@_with([*_OPTIONS, _FORCE])
def score(model_id: str, **given: Any) -> None:
    """Score a cohort with a model that was trained before."""
    _execute(lambda commands: commands.score_command(model_id), given)


@main.command()
@click.argument("kind", type=click.Choice(["items", "users", "features"]))
@_MODEL
@_with(_OPTIONS)
def similar(kind: str, model_id: str, **given: Any) -> None:
    """Write nearest neighbours of items, users or features, by the cosine of their embeddings."""
    _execute(lambda commands: commands.similar_command(kind, model_id), given)


@main.command()
@click.option(
    "--model", required=True, help="Id of a model under a local root, latest, or a path to one."
)
@click.option("--liked", metavar="ID,ID,...", help="Items that someone likes.")
@click.option(
    "--features",
    metavar="GROUP=VALUE,...",
    help="What describes someone, beside --liked or instead of it.",
)
@click.option("--k", type=click.IntRange(min=1), help="Length of the list; default: scoring.k.")
@_with(_CONFIG_OPTIONS)
def recommend(**given: Any) -> None:
    """Recommend to someone new by what they like or what describes them, without Spark."""
    from recsys.flows import recommend as recommend_job

    sys.exit(recommend_job.main(**given))


@main.command()
@_with(_OPTIONS)
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
@_with(_OPTIONS)
def tune(storage: str | None, study: str, **given: Any) -> None:
    """Look for better hyperparameters, and write a configuration with them."""
    _execute(lambda commands: commands.tune_command(storage, study), given)


@main.command("config")
@click.argument("name", default="base")
@click.option("--list", "names_only", is_flag=True, help="Print the names of all.")
def print_config(name: str, names_only: bool) -> None:
    """Print the commented defaults, or the configuration for a data set by its NAME."""
    from recsys.config import shipped
    from recsys.errors import ConfigError

    try:
        click.echo("\n".join(shipped.names()) if names_only else shipped.read(name).rstrip())
    except ConfigError as error:
        click.echo(f"recsys: error: {error}", err=True)
        sys.exit(error.exit_code)


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _for(*names: str) -> Callable[[_Command], _Command]:
    about = "The command that is meant."
    choice = click.Choice(names)
    return click.option("--for", "name", type=choice, default="run", show_default=True, help=about)


@main.command()
@_for("run", "train", "refresh", "score", "evaluate", "tune")
@click.option(
    "--model",
    "model_id",
    default="latest",
    show_default=True,
    help="For refresh and score: the id of the model, or latest.",
)
@_JSON
@_with(_OPTIONS)
def doctor(name: str, model_id: str, as_json: bool, **given: Any) -> None:
    """Check what a command needs before it starts, and print each check with its limit."""

    def examine() -> "Act":
        from recsys.flows import doctor

        return doctor.examine(as_json=as_json)

    _execute(lambda commands: commands.named(name, model_id), given, examine)


_DAY = click.DateTime(["%Y-%m-%d"])
_DEBUG = click.option("--debug", is_flag=True, help="Show tracebacks.")


def _manage(
    action: Callable[["Place"], None], config: str | None, overrides: Sequence[str], *, debug: bool
) -> None:
    from recsys.flows import manage

    sys.exit(manage.execute(action, config, overrides, debug=debug))


@main.command()
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--run-date", type=_DAY, help="Only runs for this day.")
@click.option("--run-id", help="Only this run; also by the id that a scheduler gave it.")
@_JSON
@_with([*_CONFIG_OPTIONS, _DEBUG])
def runs(
    limit: int, run_date: dt.datetime | None, run_id: str | None, as_json: bool, **given: Any
) -> None:
    """List the latest runs of a root, with their state."""
    from recsys.flows import manage

    day = None if run_date is None else run_date.date()
    _manage(lambda place: manage.runs(place, limit, day, run_id, as_json=as_json), **given)


@main.command()
@_JSON
@_with([*_CONFIG_OPTIONS, _DEBUG])
def models(as_json: bool, **given: Any) -> None:
    """List the models of a root, the newest first."""
    from recsys.flows import manage

    _manage(lambda place: manage.models(place, as_json=as_json), **given)


@main.command()
@click.option("--cohort", required=True, help="Its name.")
@click.option("--run-date", type=_DAY, required=True, help="The day.")
@click.option(
    "--to", help="Run id of a version that is kept, or a scheduler's; default: the one before."
)
@_with([*_CONFIG_OPTIONS, _DEBUG])
def rollback(cohort: str, run_date: dt.datetime, to: str | None, **given: Any) -> None:
    """Let readers see an earlier version again, in one step."""
    from recsys.flows import manage

    _manage(lambda place: manage.rollback(place, cohort, run_date.date(), to), **given)


_OF_COHORT = click.option("--cohort", help="Only of this cohort.")
_OF_DAY = click.option("--run-date", type=_DAY, help="Only of this day.")


@main.command()
@click.option("--user", required=True, metavar="ID", help="The user.")
@click.option("--item", required=True, metavar="ID", help="The item.")
@click.option("--run", help="The run that published the list; default: what readers see.")
@_OF_COHORT
@_OF_DAY
@_JSON
@_with([*_CONFIG_OPTIONS, _DEBUG])
def why(
    user: str,
    item: str,
    run: str | None,
    cohort: str | None,
    run_date: dt.datetime | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Say why an item is in a user's list, or why it is not."""
    from recsys.flows import look

    day = None if run_date is None else run_date.date()
    _manage(lambda place: look.why(place, user, item, run, cohort, day, as_json=as_json), **given)


@main.command()
@click.option("--yes", is_flag=True, help="Delete what is shown.")
@click.option(
    "--stored",
    is_flag=True,
    help="Also models, interactions, rejects, evaluations, tunings and tables of neighbours of "
    "which no kept version was made.",
)
@click.option(
    "--min-age",
    "min_age_days",
    type=click.FloatRange(min=0),
    default=7.0,
    show_default=True,
    help="Days; of what a gate held back, and of what --stored names, only what is older.",
)
@_with([*_CONFIG_OPTIONS, _DEBUG])
def clean(yes: bool, stored: bool, min_age_days: float, **given: Any) -> None:
    """Show what nothing needs any more, and with --yes delete it."""
    if math.isnan(min_age_days):
        raise click.BadParameter("found nan, expected a number of days", param_hint="--min-age")
    from recsys.flows import manage

    _manage(
        lambda place: manage.clean(place, yes=yes, stored=stored, min_age_days=min_age_days),
        **given,
    )


@main.command()
@_for("run", "train", "score", "evaluate")
@_JSON
@_with([*_CONFIG_OPTIONS, _DEBUG])
def plan(
    name: str, as_json: bool, config: str | None, overrides: Sequence[str], *, debug: bool
) -> None:
    """Show what a run would do, its rows, sizes and minutes by an earlier run, without Spark."""
    from recsys.flows import plan

    sys.exit(plan.execute(name, config, overrides, as_json=as_json, debug=debug))


@main.command()
@_with([*_CONFIG_OPTIONS, _DEBUG])
def verify(**given: Any) -> None:
    """Re-read every published version and every model, and compare with what was written."""
    from recsys.flows import manage

    _manage(manage.verify, **given)


if __name__ == "__main__":
    main(prog_name="recsys")
