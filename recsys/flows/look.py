"""Print what people ask of published lists: `recsys why`, `diff` and `show`."""

import datetime as dt
import sys

import click

from recsys.errors import one_line
from recsys.flows import why as why_flow
from recsys.flows.manage import Place


def why(
    place: Place,
    user: str,
    item: str,
    run: str | None,
    cohort: str | None,
    day: dt.date | None,
    *,
    as_json: bool,
) -> None:
    """Print why an item is in a user's list, or why it is not."""
    found = why_flow.why(place, user, item, run, cohort, day)
    if as_json:
        click.echo(found.model_dump_json(indent=2))
        return
    for line in why_flow.lines(found):
        click.echo(line)
    tell(found.notes)


def tell(notes: list[str]) -> None:
    """Print notes beside the result, on standard error."""
    for note in notes:
        print(f"recsys: note: {one_line(note)}", file=sys.stderr)
