"""Write a published version for people and systems outside: `recsys export`, without Spark."""

import datetime as dt
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from recsys.columns import TITLE_COLUMNS
from recsys.errors import ConfigError, DamageError, one_line
from recsys.flows.item_titles import configured_titles
from recsys.flows.manage import Place
from recsys.publishing.export import placing, text_files, workbook
from recsys.publishing.export.database import Database
from recsys.publishing.export.rows import Rows, read_rows
from recsys.publishing.lookup import Kept, find_version, open_kept
from recsys.store.files import local_path, require_local

CSV, XLSX, JSON, SQL = "csv", "xlsx", "json", "sql"
FORMATS = (CSV, XLSX, JSON, SQL)
_PACKED = ".gz"
_ENDINGS = {".csv": CSV, ".xlsx": XLSX, ".json": JSON, ".jsonl": JSON, ".ndjson": JSON}


@dataclass(frozen=True)
class Wanted:
    """What the command line says.

    Attributes:
        to: a path, or the URL of a database.
        form: one of FORMATS; None: by the ending of the path, or `sql` for a URL.
        per: `rank` or `user`: what a row is about.
        columns: those to write; None: all that have some value.
        table: in a database.
        overwrite: replace what is there.
        unguarded: leave text in CSV as it is, whatever a spreadsheet takes it for.
    """

    to: str
    form: str | None
    per: str
    columns: Sequence[str] | None
    table: str
    overwrite: bool
    unguarded: bool


@dataclass(frozen=True)
class Exported:
    """What was written, without secrets."""

    to: str
    format: str
    rows: int
    users: int
    replaced: int
    columns: list[str]
    cohort: str
    run_date: str
    run_id: str
    model_id: str


def export(
    place: Place,
    wanted: Wanted,
    run: str | None,
    cohort: str | None,
    day: dt.date | None,
    *,
    as_json: bool,
) -> None:
    """Write a version, and say what was written."""
    done, notes = written(place, wanted, run, cohort, day)
    if as_json:
        click.echo(json.dumps(asdict(done), indent=2))
    else:
        what = f"{done.rows:,} rows, {done.users:,} users"
        replaced = f", instead of {done.replaced:,} rows" if done.replaced else ""
        click.echo(
            f"{done.to}: {what}, cohort {done.cohort} of {done.run_date}, run {done.run_id}"
            f"{replaced}"
        )
    for note in notes:
        print(f"recsys: note: {one_line(note)}", file=sys.stderr)


def written(
    place: Place, wanted: Wanted, run: str | None, cohort: str | None, day: dt.date | None
) -> tuple[Exported, list[str]]:
    """Write a version; return what was written, and what should be known.

    Args:
        place: the root.
        wanted: what to write, and where.
        run: the run that published it; None: what readers see.
        cohort: of this cohort; None: of any with this run; without a run, of the only one.
        day: of this day; None: the latest.

    Raises:
        ConfigError: an option cannot be used; nothing was read.
        OutputError: nothing like that is published, or it cannot be written.
        DamageError: the version is damaged.
    """
    form = _form(wanted)
    database, path = None, Path()
    if form == SQL:
        database = Database(wanted.to)
    else:
        path = require_local(wanted.to, "--to")
        placing.check_place(path, local_path(place.files.root), overwrite=wanted.overwrite)
    if form == XLSX:
        workbook.check_installed()
    kept, rows, notes = _read(place, wanted, run, cohort, day)
    replaced = 0
    if database is not None:
        replaced = database.write(rows, wanted.table, overwrite=wanted.overwrite)
    else:
        with placing.written_beside(path, overwrite=wanted.overwrite) as beside:
            _write_file(rows, form, beside, packed=path.suffix == _PACKED, wanted=wanted)
    unit = kept.version.unit
    done = Exported(
        to=str(path) if database is None else f"{wanted.table} of {database.name}",
        format=form,
        rows=len(rows),
        users=rows.n_users,
        replaced=replaced,
        columns=list(rows.columns),
        cohort=unit.cohort,
        run_date=unit.run_date.isoformat(),
        run_id=kept.version.run_id,
        model_id=kept.manifest.model_id,
    )
    return done, notes


def _form(wanted: Wanted) -> str:
    if wanted.form is not None:
        form = wanted.form
    elif "://" in wanted.to and not wanted.to.startswith("file:"):
        form = SQL
    else:
        endings = [suffix for suffix in Path(wanted.to).suffixes if suffix != _PACKED]
        found = _ENDINGS.get(endings[-1].lower() if endings else "")
        if found is None:
            raise ConfigError(
                f"--format: found none, and --to ends in none of {', '.join(_ENDINGS)}, expected "
                f"one of {', '.join(FORMATS)}"
            )
        form = found
    if wanted.unguarded and form != CSV:
        raise ConfigError(f"--unguarded: found with --format {form}, expected csv: others have it")
    if form == XLSX and wanted.to.endswith(_PACKED):
        raise ConfigError("--to: a workbook is packed already, expected a name that ends in .xlsx")
    return form


def _write_file(rows: Rows, form: str, path: Path, *, packed: bool, wanted: Wanted) -> None:
    if form == CSV:
        text_files.write_csv(rows, path, packed=packed, guarded=not wanted.unguarded)
    elif form == JSON:
        text_files.write_json(rows, path, packed=packed)
    else:
        workbook.write_workbook(rows, path)


def _read(
    place: Place, wanted: Wanted, run: str | None, cohort: str | None, day: dt.date | None
) -> tuple[Kept, Rows, list[str]]:
    # A version may be forgotten and deleted between being named and being read: look again.
    for attempt in (1, 2, 3):
        version = find_version(place.index, run, cohort, day)
        try:
            kept = open_kept(place.files, version)
            notes: list[str] = []
            titles = kept.titles([*TITLE_COLUMNS])
            if titles is None:
                titles = configured_titles(kept, place.config.items.titles, notes)
            return kept, read_rows(kept, titles, wanted.per, wanted.columns), notes
        except (DamageError, FileNotFoundError):
            if attempt == 3 or version in place.index.versions(version.unit):
                raise
    raise AssertionError("the last attempt returns or raises")
