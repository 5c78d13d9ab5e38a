"""`recsys doctor`: the checks of a command's preflight as a table, and nothing is run."""

import json
from contextlib import suppress
from functools import partial
from pathlib import Path

from pyspark.sql import SparkSession

from recsys.config.configuration import Config
from recsys.flows.checks import Check, Checks
from recsys.flows.execution import Act, Command, Job, Options, look
from recsys.model.listing import LATEST, latest_model
from recsys.runtime.run import Run
from recsys.store.files import local_path
from recsys.store.tables import Scratch, Store

_COLUMNS = ("check", "found", "limit", "state", "what to change")


def examine(*, as_json: bool) -> Act:
    """Return what `execute` does with a command: look, print all checks, and say a status."""
    return partial(_examine, as_json=as_json)


def _examine(
    command: Command,
    spark: SparkSession,
    config: Config,
    run: Run,
    options: Options,
    *,
    as_json: bool,
) -> int:
    store = Store(spark, config.root)
    new = not store.exists(store.root)
    with store.staging(run.run_id) as staging:
        model_id, missing = _model(command, store)
        scratch = Scratch(store, f"{staging}/scratch")
        job = Job(spark, store, config, run, staging, scratch, options.force, model_id)
        found = look(command, job) if missing is None else missing
    path = local_path(store.root)
    if new and path is not None:
        with suppress(OSError):  # somebody has written to it
            Path(path).rmdir()
    status = _status(found)
    (_print_json if as_json else _print_table)(command.name, found, status)
    return status


def _model(command: Command, store: Store) -> tuple[str | None, Checks | None]:
    """Return the model of a command; where there is none, the check that says so."""
    if command.model_id != LATEST:
        return command.model_id, None
    missing, option = Checks(), command.base_of or "--model"
    with missing.looking("model"):
        return latest_model(store.files, option, trained=option != "--model"), None
    return None, missing


def _status(found: Checks) -> int:
    """Return the exit status of the first refusal, else of the first warning, else 0."""
    if found.errors:
        return found.errors[0].exit_code
    return next((check.exit_status for check in found.made if check.exit_status), 0)


def _print_json(command: str, found: Checks, status: int) -> None:
    checks = [check.plain() for check in found.made]
    print(json.dumps({"command": command, "exit_status": status, "checks": checks}, indent=2))


def _print_table(command: str, found: Checks, status: int) -> None:
    rows = [_COLUMNS, *(_row(check) for check in found.made)]
    # What to change is the last column and as long as it is; the others are kept narrow.
    widths = [min(60, max(len(row[n]) for row in rows)) for n in range(len(_COLUMNS) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]).rstrip())
    n_wrong = sum(check.state in ("refused", "warning") for check in found.made)
    print(f"{command}: {len(found.made):,} checks, {n_wrong:,} not fulfilled, exit status {status}")


def _row(check: Check) -> tuple[str, ...]:
    return check.name, check.found, check.limit, check.state, check.change
