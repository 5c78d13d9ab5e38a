"""After a run: `recsys runs`, `models`, `rollback`, `clean` and `verify`, all without a session."""

import datetime as dt
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from recsys.config.configuration import Config
from recsys.config.reading import load_config
from recsys.errors import ConfigError, DamageError
from recsys.flows import housekeeping
from recsys.flows.answer import answer
from recsys.flows.record import read_run
from recsys.flows.runs import list_runs
from recsys.model.listing import list_models
from recsys.publishing import maintenance
from recsys.publishing.export import placing
from recsys.publishing.index import open_index
from recsys.publishing.versions import Unit, VersionIndex
from recsys.runtime.sizes import size
from recsys.store.files import Files, local_path
from recsys.store.opening import open_root


@dataclass(frozen=True)
class Place:
    """A root, and what readers see of it."""

    config: Config
    files: Files
    index: VersionIndex


def runs(
    place: Place, limit: int, run_date: dt.date | None, run_id: str | None, *, as_json: bool
) -> None:
    """Print the latest runs, one a line or as JSON."""
    found = list_runs(place.files, place.index, run_date, run_id)[:limit]
    if as_json:
        print(json.dumps([run.model_dump(mode="json") for run in found], indent=2))
        return
    line = "{:32} {:10} {:10} {:16} {:11} {:19} {:>8} {:>4} {:9} {}"
    header = ("run", "job", "date", "cohort", "state", "started (UTC)", "seconds", "exit")
    print(line.format(*header, "published", "model"))
    for run in found:
        shown = (run.run_id, run.job, run.run_date, run.cohort, run.state, run.started_at)
        seconds = "" if run.seconds is None else f"{run.seconds:,.0f}"
        exit_code = "" if run.exit_code is None else str(run.exit_code)
        print(line.format(*shown, seconds, exit_code, run.published, run.model_id).rstrip())
        if run.requested_run_id not in ("", run.run_id):
            print(f"    requested as {run.requested_run_id}")
        if run.note:
            print(f"    {run.note}")


def report(
    place: Place, run_id: str | None, output: str | None, *, overwrite: bool, as_json: bool
) -> None:
    """Write the page of a run, of the latest one unless it is named, and say where it is."""
    if output is not None:
        root = local_path(place.files.root)
        placing.check_place(Path(output), root, overwrite=overwrite, option="--output")
    elif overwrite:
        raise ConfigError("--overwrite: found without --output; the page of a root is made anew")
    from recsys.flows.report.render import page_of, write_report  # what draws takes long to load

    found = list_runs(place.files, place.index, None, run_id)
    run = read_run(place.files, found[0].run_id) if found else None
    if run is None:
        raise ConfigError(
            f"there is no record of run {found[0].run_id} that can be read; see recsys verify"
            if found
            else f"root: found no run in {place.files.root}; recsys run makes one"
        )
    if output is None:
        uri = write_report(place.files, run, place.config.report.users)
    else:
        target = Path(output)
        page = page_of(place.files, run, place.config.report.users)
        with placing.written_beside(target, overwrite=overwrite) as beside:
            beside.write_text(page, encoding="utf-8")
        uri = str(target)
    print(json.dumps({"run_id": run.run_id, "report": uri}, indent=2) if as_json else uri)


def models(place: Place, *, as_json: bool) -> None:
    """Print the models of the root, the newest first, one a line or as JSON."""
    found = list_models(place.files)
    if as_json:
        print(json.dumps([model.model_dump(mode="json") for model in found], indent=2))
        return
    line = "{:44} {:19} {:10} {:>11} {:>11} {:>10} {:>6} {:>6} {:>9}"
    header = ("model", "created (UTC)", "date", "users", "items", "components", "epochs", "nDCG")
    print(line.format(*header, "size"))
    for model in found:
        if model.created_at is not None:
            numbers = (model.users, model.items, model.components, model.epochs)
            counts = [f"{number:,}" for number in numbers]
            ndcg = "" if model.validation_ndcg is None else f"{model.validation_ndcg:.4f}"
            about = (model.model_id, model.created_at[:19], model.run_date)
            print(line.format(*about, *counts, ndcg, size(model.bytes or 0)))
        else:
            print(model.model_id)
        if model.refresh_of is not None:
            print(f"    refresh of {model.refresh_of}")
        if model.error is not None:
            print(f"    cannot be used: {model.error}")


def rollback(
    place: Place, cohort: str, run_date: dt.date, to: str | None, *, as_json: bool = False
) -> None:
    """Return to an earlier version, and say which."""
    unit = Unit(cohort, run_date)
    before, now = maintenance.rollback(place.files, place.index, unit, to)
    if as_json:
        told = {"cohort": cohort, "run_date": unit.run_date.isoformat(), "run_id": now.run_id}
        told |= {"published_at": now.published_at}
        print(json.dumps({**told, "was": before and before.run_id}, indent=2))
        return
    print(f"{unit}: run {now.run_id} is current, published {now.published_at[:19]} UTC")
    if before is None:
        print("its pointer, which was damaged or missing, is written anew")
    else:
        print(f"run {before.run_id} was; return to it with --to {before.run_id}")
    if place.config.publishing.views is not None:
        print("the views of Spark's catalog follow with the next run", file=sys.stderr)


def clean(
    place: Place, *, yes: bool, stored: bool, min_age_days: float, as_json: bool = False
) -> None:
    """Show what nothing needs, and delete it if told to."""
    found = housekeeping.find_waste(
        place.files, place.index, stored=stored, min_age=min_age_days * housekeeping.DAY
    )
    if as_json:
        deleted = housekeeping.clean(place.files, place.index, found.waste) if yes else []
        told = {"delete": found.waste, "keep": found.kept}
        plain = {word: list(map(_plain, entries)) for word, entries in told.items()}
        print(json.dumps({**plain, "deleted": len(deleted)}, indent=2))
        return
    for one in found.waste:
        _print_entry("delete", one)
    for one in found.kept:
        _print_entry("keep", one)
    total = size(sum(one.bytes for one in found.waste))
    if not found.waste:
        print("nothing to clean")
    elif not yes:
        print(f"{len(found.waste):,} to delete, {total}; nothing was deleted: say --yes")
    else:
        deleted = housekeeping.clean(place.files, place.index, found.waste)
        print(f"deleted {len(deleted):,} of {len(found.waste):,}, {total} in all")


def _print_entry(word: str, one: housekeeping.Entry) -> None:
    print(f"{word:6}  {size(one.bytes):>11}  {_age(one.age):>10}  {one.uri}  {one.why}")


def _plain(one: housekeeping.Entry) -> dict[str, str | float]:
    return {"uri": one.uri, "bytes": one.bytes, "age_seconds": one.age, "why": one.why}


def _age(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def verify(place: Place, *, as_json: bool = False) -> None:
    """Re-read everything that is published or stored, and say what is damaged."""
    damaged = 0
    told = []
    everything = chain(
        maintenance.verify(place.files, place.index), housekeeping.verify_stored(place.files)
    )
    for name, error in everything:
        if as_json:
            told.append({"name": name, "ok": error is None, "error": error and str(error)})
        else:
            state = "ok" if error is None else "DAMAGED"
            print(f"{state:8} {name}" + (f": {error}" if error else ""))
        damaged += error is not None
    if as_json:
        print(json.dumps(told, indent=2))
    if damaged:
        raise DamageError(f"{damaged:,} damaged or incomplete; see above")


def execute(
    action: Callable[[Place], None],
    config: str | None,
    overrides: Sequence[str],
    *,
    debug: bool,
    anywhere: bool = False,
) -> int:
    """Do one of these and return the exit status (docs/reference/exit-statuses.md).

    Args:
        action: what to do.
        config: the configuration's file, or None.
        overrides: keys and values that win over it.
        debug: whether to show tracebacks.
        anywhere: whether it works on roots that are not local.
    """

    def act() -> None:
        loaded = load_config(config, overrides)
        files = open_root(loaded.root, settings=loaded.spark if anywhere else None)
        if not files.exists(files.root):
            raise ConfigError(f"root: found {loaded.root}, expected a directory with runs in it")
        index = open_index(files, loaded.publishing, lambda: None)
        action(Place(loaded, files, index))

    return answer(act, debug=debug)
