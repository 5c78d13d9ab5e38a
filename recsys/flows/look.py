"""Print what people ask of published lists: `recsys why`, `diff` and `show`."""

import datetime as dt
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from recsys.errors import one_line
from recsys.flows import diff as diff_flow
from recsys.flows import diff_tables, diff_text, show_text
from recsys.flows import show as show_flow
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


@dataclass(frozen=True)
class Wanted:
    """What `recsys diff` was asked for; see its options of the same names."""

    runs: Sequence[str]
    cohort: str | None
    day: dt.date | None
    user: str | None
    why: bool
    output: str | None


def diff(place: Place, wanted: Wanted, *, as_json: bool) -> None:
    """Print what has changed between two runs, and why."""
    output = None if wanted.output is None else Path(wanted.output)
    if output is not None:
        diff_tables.check_output(output)
    pairs = diff_flow.chosen(place.files, place.index, wanted.runs, wanted.cohort, wanted.day)
    found = diff_flow.compare_all(place.config, pairs, user=wanted.user, why=wanted.why)
    if output is not None:
        diff_tables.write([one for one, _ in found], output)
    records = [
        one.as_record() if user is None else {**one.as_record(), "user": one.of_user(user)}
        for one, user in found
    ]
    if as_json:
        click.echo(json.dumps(records, indent=2, ensure_ascii=False))
        return
    for n, record in enumerate(records):
        lines = diff_text.lines if wanted.user is None else diff_text.user_lines
        for line in (*([""] if n else []), *lines(record)):
            click.echo(line)
    if wanted.user is None and len(records) > 1:
        click.echo("")
        for line in diff_text.cohort_lines(records):
            click.echo(line)
    tell(list(dict.fromkeys(note for record in records for note in record["notes"])))


def show(
    place: Place,
    kind: str,
    name: str,
    run: str | None,
    cohort: str | None,
    day: dt.date | None,
    *,
    as_json: bool,
) -> None:
    """Print what is published of a user or an item."""
    found: show_flow.ShownUser | show_flow.ShownItem
    if kind == "user":
        found = show_flow.user(place, name, run, cohort, day)
    else:
        found = show_flow.item(place, name, run, cohort, day)
    if as_json:
        click.echo(found.model_dump_json(indent=2))
        return
    for line in show_text.lines(found):
        click.echo(line)
    tell(found.notes)


def tell(notes: list[str]) -> None:
    """Print notes beside the result, on standard error."""
    for note in notes:
        print(f"recsys: note: {one_line(note)}", file=sys.stderr)
