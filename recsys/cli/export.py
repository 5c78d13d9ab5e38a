"""The command that writes a published version for people and systems outside."""

import datetime as dt
import sys
from collections.abc import Sequence
from typing import Any

import click

from recsys.cli.group import main
from recsys.cli.options import CONFIG_OPTIONS, JSON, with_options


@main.command()
@click.option(
    "--to",
    required=True,
    metavar="FILE|URL",
    envvar="RECSYS_EXPORT_TO",
    show_envvar=True,
    help="A file, or the URL of a database as SQLAlchemy has it; with .gz at the end, packed.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "xlsx", "json", "sql"]),
    help="Default: what the file ends in; sql for a URL. json: an object a line.",
)
@click.option(
    "--per",
    type=click.Choice(["rank", "user"]),
    default="rank",
    show_default=True,
    help="One row for each rank of each user, or one row a user with arrays.",
)
@click.option(
    "--columns", metavar="NAME,NAME,...", help="Only these; default: all that have some value."
)
@click.option(
    "--table",
    default="recommendations",
    show_default=True,
    help="For a database: its table, or schema.table; created if it is missing.",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace the file, or the rows of this cohort and day."
)
@click.option(
    "--unguarded",
    is_flag=True,
    help="For csv that programs read: no apostrophe before text that begins with =, +, - or @.",
)
@click.option("--run", help="The run that published the lists; default: what readers see.")
@click.option("--cohort", help="Its name; default: the only one there is.")
@click.option(
    "--run-date", type=click.DateTime(["%Y-%m-%d"]), help="The day; default: the latest there is."
)
@JSON
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@with_options(CONFIG_OPTIONS)
def export(
    run: str | None,
    cohort: str | None,
    run_date: dt.datetime | None,
    as_json: bool,
    config: str | None,
    overrides: Sequence[str],
    debug: bool,
    **given: Any,
) -> None:
    """Write published lists to a file or into a database, with titles, without Spark."""
    from recsys.flows import export as flow
    from recsys.flows import manage

    names = given.pop("columns")
    columns = None if names is None else [name.strip() for name in names.split(",")]
    wanted = flow.Wanted(**given, columns=columns)
    day = None if run_date is None else run_date.date()

    def act(place: manage.Place) -> None:
        flow.export(place, wanted, run, cohort, day, as_json=as_json)

    sys.exit(manage.execute(act, config, overrides, debug=debug))
