"""Commands without Spark: they answer within about a second, so each imports what it needs."""

import datetime as dt
import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from recsys.cli.group import main
from recsys.cli.options import CONFIG_OPTIONS, JSON, for_command, with_options

if TYPE_CHECKING:
    from recsys.flows.manage import Place

_DAY = click.DateTime(["%Y-%m-%d"])
_DEBUG = click.option("--debug", is_flag=True, help="Show tracebacks.")


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
@JSON
@with_options(CONFIG_OPTIONS)
def recommend(**given: Any) -> None:
    """Recommend to someone new by what they like or what describes them, without Spark."""
    from recsys.flows import recommend as recommend_job

    sys.exit(recommend_job.main(**given))


@main.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--output", metavar="FILE", help="Where to write; default: a name in this folder.")
@click.option("--user", metavar="COLUMN", help="The column of the users, if the guess is wrong.")
@click.option("--item", metavar="COLUMN", help="The column of the items, likewise.")
@click.option("--rating", metavar="COLUMN", help="The column of the ratings, likewise.")
@click.option("--timestamp", metavar="COLUMN", help="The column of the times, likewise.")
@click.option("--features", is_flag=True, help="Use tables of features that lie beside the files.")
@JSON
@_DEBUG
def init(
    files: Sequence[str],
    output: str | None,
    user: str | None,
    item: str | None,
    rating: str | None,
    timestamp: str | None,
    **given: Any,
) -> None:
    """Look at files of ratings, purchases or events, and write a configuration for them."""
    from recsys.flows import init as init_job
    from recsys.guess.roles import Told

    sys.exit(init_job.main(files, output, Told(user, item, rating, timestamp), **given))


@main.command("config")
@click.argument("name", default="base")
@click.option("--list", "names_only", is_flag=True, help="Print the names of all.")
@JSON
def print_config(name: str, names_only: bool, as_json: bool) -> None:
    """Print the commented defaults, or the configuration for a data set by its NAME."""
    from recsys.config import shipped
    from recsys.flows.answer import answer

    def act() -> None:
        found = "\n".join(shipped.names()) if names_only else shipped.read(name).rstrip()
        click.echo(shipped.as_json(None if names_only else name) if as_json else found)

    sys.exit(answer(act))


def _manage(
    action: Callable[["Place"], None],
    config: str | None,
    overrides: Sequence[str],
    *,
    debug: bool,
    anywhere: bool = False,
) -> None:
    from recsys.flows import manage

    sys.exit(manage.execute(action, config, overrides, debug=debug, anywhere=anywhere))


@main.command()
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--run-date", type=_DAY, help="Only runs for this day.")
@click.option("--run-id", help="Only this run; also by the id that a scheduler gave it.")
@JSON
@with_options([*CONFIG_OPTIONS, _DEBUG])
def runs(
    limit: int, run_date: dt.datetime | None, run_id: str | None, as_json: bool, **given: Any
) -> None:
    """List the latest runs of a root, with their state."""
    from recsys.flows import manage

    day = None if run_date is None else run_date.date()
    _manage(
        lambda place: manage.runs(place, limit, day, run_id, as_json=as_json),
        anywhere=True,
        **given,
    )


@main.command()
@click.argument("run", required=False)
@click.option("--output", type=click.Path(dir_okay=False), help="Another file to write it to.")
@click.option("--overwrite", is_flag=True, help="Replace that file.")
@JSON
@with_options([*CONFIG_OPTIONS, _DEBUG])
def report(
    run: str | None, output: str | None, overwrite: bool, as_json: bool, **given: Any
) -> None:
    """Make the page about a RUN again, an HTML file beside its record; default: the latest run."""
    from recsys.flows import manage

    _manage(
        lambda place: manage.report(place, run, output, overwrite=overwrite, as_json=as_json),
        **given,
    )


@main.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address that it listens at."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8765,
    show_default=True,
    help="0: one that is free.",
)
@with_options([*CONFIG_OPTIONS, _DEBUG])
def view(host: str, port: int, **given: Any) -> None:
    """Show runs, users and items in a browser, on this machine alone; nothing can be changed."""
    from recsys import viewer

    _manage(lambda place: viewer.serve(place, host, port), **given)


@main.command()
@JSON
@with_options([*CONFIG_OPTIONS, _DEBUG])
def models(as_json: bool, **given: Any) -> None:
    """List the models of a root, the newest first."""
    from recsys.flows import manage

    _manage(lambda place: manage.models(place, as_json=as_json), anywhere=True, **given)


@main.command()
@click.option("--cohort", required=True, help="Its name.")
@click.option("--run-date", type=_DAY, required=True, help="The day.")
@click.option(
    "--to", help="Run id of a version that is kept, or a scheduler's; default: the one before."
)
@JSON
@with_options([*CONFIG_OPTIONS, _DEBUG])
def rollback(
    cohort: str, run_date: dt.datetime, to: str | None, as_json: bool, **given: Any
) -> None:
    """Let readers see an earlier version again, in one step."""
    from recsys.flows import manage

    day = run_date.date()
    _manage(
        lambda place: manage.rollback(place, cohort, day, to, as_json=as_json),
        anywhere=True,
        **given,
    )


_OF_COHORT = click.option("--cohort", help="Only of this cohort.")
_OF_DAY = click.option("--run-date", type=_DAY, help="Only of this day.")


@main.command()
@click.option("--user", required=True, metavar="ID", help="The user.")
@click.option("--item", required=True, metavar="ID", help="The item.")
@click.option("--run", help="The run that published the list; default: what readers see.")
@_OF_COHORT
@_OF_DAY
@JSON
@with_options([*CONFIG_OPTIONS, _DEBUG])
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
@click.argument("runs", nargs=-1, metavar="[BEFORE] [RUN]")
@_OF_COHORT
@_OF_DAY
@click.option("--user", metavar="ID", help="Show both lists of this user.")
@click.option("--no-why", is_flag=True, help="Do not make lists again to find out why.")
@click.option("--output", metavar="DIR", help="Also write tables of Parquet into a new directory.")
@JSON
@with_options([*CONFIG_OPTIONS, _DEBUG])
def diff(
    runs: Sequence[str],
    cohort: str | None,
    run_date: dt.datetime | None,
    user: str | None,
    no_why: bool,
    output: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Show what has changed between two runs, and why.

    Without a run: what readers see, of each cohort, against what was published before it. With one:
    this run against what was before it.
    """
    from recsys.flows import look

    day = None if run_date is None else run_date.date()
    wanted = look.Wanted(runs, cohort, day, user, why=not no_why, output=output)
    _manage(lambda place: look.diff(place, wanted, as_json=as_json), **given)


@main.command()
@click.argument("kind", type=click.Choice(["user", "item"]))
@click.argument("name", metavar="ID")
@click.option("--run", help="The run that published the lists; default: what readers see.")
@_OF_COHORT
@_OF_DAY
@JSON
@with_options([*CONFIG_OPTIONS, _DEBUG])
def show(
    kind: str,
    name: str,
    run: str | None,
    cohort: str | None,
    run_date: dt.datetime | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Show what is published of a user or an item, with history and titles."""
    from recsys.flows import look

    day = None if run_date is None else run_date.date()
    _manage(lambda place: look.show(place, kind, name, run, cohort, day, as_json=as_json), **given)


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
@JSON
@with_options([*CONFIG_OPTIONS, _DEBUG])
def clean(yes: bool, stored: bool, min_age_days: float, as_json: bool, **given: Any) -> None:
    """Show what nothing needs any more, and with --yes delete it."""
    if math.isnan(min_age_days):
        raise click.BadParameter("found nan, expected a number of days", param_hint="--min-age")
    from recsys.flows import manage

    more = {"yes": yes, "stored": stored, "as_json": as_json}
    _manage(
        lambda place: manage.clean(place, min_age_days=min_age_days, **more),
        anywhere=True,
        **given,
    )


@main.command()
@for_command("run", "train", "score", "evaluate")
@JSON
@with_options([*CONFIG_OPTIONS, _DEBUG])
def plan(
    name: str, as_json: bool, config: str | None, overrides: Sequence[str], *, debug: bool
) -> None:
    """Show what a run would do, its rows, sizes and minutes by an earlier run, without Spark."""
    from recsys.flows import plan

    sys.exit(plan.execute(name, config, overrides, as_json=as_json, debug=debug))


@main.command()
@JSON
@with_options([*CONFIG_OPTIONS, _DEBUG])
def verify(as_json: bool, **given: Any) -> None:
    """Re-read every published version and every model, and compare with what was written."""
    from recsys.flows import manage

    _manage(lambda place: manage.verify(place, as_json=as_json), anywhere=True, **given)
