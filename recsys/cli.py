"""The command line: what spark-submit runs as well, and what needs no Spark.

Each command imports its own job: those without Spark answer within about a second.
"""

import datetime as dt
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from recsys import __version__

if TYPE_CHECKING:
    from recsys.flows.execution import Options
    from recsys.flows.manage import Place

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


def _options(given: dict[str, Any]) -> "Options":
    from recsys.flows.execution import Options

    day: dt.datetime | None = given.pop("run_date")
    return Options(**given, run_date=day.date() if day else None)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="recsys")
def main() -> None:
    """Batch recommendations: Spark prepares and scores, LightFM learns."""


@main.command()
@_with([*_OPTIONS, _FORCE])
def run(**given: Any) -> None:
    """Prepare, train and score."""
    from recsys.flows.commands import run_command
    from recsys.flows.execution import execute

    sys.exit(execute(run_command(), _options(given)))


@main.command()
@_with(_OPTIONS)
def train(**given: Any) -> None:
    """Prepare the ratings and train a model."""
    from recsys.flows.commands import train_command
    from recsys.flows.execution import execute

    sys.exit(execute(train_command(), _options(given)))


@main.command()
@_MODEL
@_with([*_OPTIONS, _FORCE])
def score(model_id: str, **given: Any) -> None:
    """Score a cohort with a model that was trained before."""
    from recsys.flows.commands import score_command
    from recsys.flows.execution import execute

    sys.exit(execute(score_command(model_id), _options(given)))


@main.command()
@click.argument("kind", type=click.Choice(["items", "users"]))
@_MODEL
@_with(_OPTIONS)
def similar(kind: str, model_id: str, **given: Any) -> None:
    """Write the nearest neighbours of items or users, by the cosine of their embeddings."""
    from recsys.flows.commands import similar_command
    from recsys.flows.execution import execute

    sys.exit(execute(similar_command(kind, model_id), _options(given)))


@main.command()
@click.option(
    "--model", required=True, help="Id of a model under a local root, latest, or a path to one."
)
@click.option("--liked", required=True, metavar="ID,ID,...", help="Items that someone likes.")
@click.option("--k", type=click.IntRange(min=1), help="Length of the list; default: scoring.k.")
@_with(_CONFIG_OPTIONS)
def recommend(**given: Any) -> None:
    """Recommend to someone new by what they like, at once and without Spark."""
    from recsys.flows import recommend as recommend_job

    sys.exit(recommend_job.main(**given))


@main.command()
@_with(_OPTIONS)
def evaluate(**given: Any) -> None:
    """Hold pairs out, train on the rest, and measure the lists beside popularity."""
    from recsys.flows.commands import evaluate_command
    from recsys.flows.execution import execute

    sys.exit(execute(evaluate_command(), _options(given)))


_DAY = click.DateTime(["%Y-%m-%d"])
_DEBUG = click.option("--debug", is_flag=True, help="Show tracebacks.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


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


@main.command()
@click.option("--yes", is_flag=True, help="Delete what is shown.")
@click.option(
    "--stored",
    is_flag=True,
    help="Also models, interactions, rejects, evaluations and tables of neighbours of which no "
    "kept version was made.",
)
@click.option(
    "--min-age",
    "min_age_days",
    type=click.FloatRange(min=0),
    default=7.0,
    show_default=True,
    help="Days; of what --stored names, only what is older.",
)
@_with([*_CONFIG_OPTIONS, _DEBUG])
def clean(yes: bool, stored: bool, min_age_days: float, **given: Any) -> None:
    """Show what nothing needs any more, and with --yes delete it."""
    from recsys.flows import manage

    _manage(
        lambda place: manage.clean(place, yes=yes, stored=stored, min_age_days=min_age_days),
        **given,
    )


@main.command()
@_with([*_CONFIG_OPTIONS, _DEBUG])
def verify(**given: Any) -> None:
    """Re-read every published version and every model, and compare with what was written."""
    from recsys.flows import manage

    _manage(manage.verify, **given)


if __name__ == "__main__":
    main(prog_name="recsys")
