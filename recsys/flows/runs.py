"""The runs of a root, as `recsys runs` lists them, without a session."""

import datetime as dt

from recsys.errors import ConfigError, DamageError
from recsys.flows.record import read_run
from recsys.publishing.versions import HELD, VersionIndex, placed
from recsys.runtime.run import run_lock, run_name
from recsys.store.files import RUNS, Files
from recsys.store.manifest import Part


class RunSummary(Part):
    """One run of a root."""

    run_id: str
    """Its id."""
    requested_run_id: str
    """Its id as `--run-id` gave it; empty where none was given."""
    job: str
    """Which command ran; empty where the manifest cannot be read."""
    run_date: str
    """The day that it worked for."""
    cohort: str
    """The cohort that it scored; empty for jobs without lists."""
    model_id: str
    """The model that it trained or used; empty where it has none yet."""
    state: str
    """`running`, `complete`, `failed`, `interrupted` (its process is gone) or `unknown`."""
    started_at: str
    """When its latest attempt began, ISO 8601 in UTC."""
    seconds: float | None
    """How long this attempt took; null until it has ended."""
    exit_code: int | None
    """Exit status; null until it has ended."""
    published: str
    """`current` for readers, `kept` for a rollback, `held` by a gate, or empty."""
    note: str
    """Why it failed."""


def list_runs(
    files: Files,
    index: VersionIndex,
    run_date: dt.date | None = None,
    called: str | None = None,
) -> list[RunSummary]:
    """Return the runs of a root, the latest first.

    Args:
        files: the root.
        index: says what readers see.
        run_date: only runs for this day; None: all.
        called: only the run with this id, or with this requested id; None: all.

    Raises:
        ConfigError: there is no run that is called so.
    """
    published = _published(files, index)
    names = files.names(files.uri(RUNS))
    if called is not None:
        run_id = run_name(called)
        if run_id not in names:
            raise ConfigError(f"--run-id: there is no run {called[:140]!r}; see recsys runs")
        names = [run_id]
    found = [_summary(files, run_id, published.get(run_id, "")) for run_id in names]
    if run_date is not None:
        found = [run for run in found if run.run_date == run_date.isoformat()]
    return sorted(found, key=lambda run: (run.started_at, run.run_id), reverse=True)


def _published(files: Files, index: VersionIndex) -> dict[str, str]:
    """Say of each run with a version what readers have to do with it."""
    published: dict[str, str] = {}
    for unit in index.units():
        try:
            current = index.current(unit)
            for version in index.versions(unit):
                published[version.run_id] = "current" if version == current else "kept"
        except DamageError:
            published |= dict.fromkeys(placed(files, unit), "damaged: see recsys verify")
    for run_id in files.names(files.uri(HELD)):
        published.setdefault(run_id, "held")
    return published


def _summary(files: Files, run_id: str, published: str) -> RunSummary:
    run = read_run(files, run_id)
    if run is None:
        return RunSummary(
            run_id=run_id,
            requested_run_id="",
            job="",
            run_date="",
            cohort="",
            model_id="",
            state="unknown",
            started_at="",
            seconds=None,
            exit_code=None,
            published=published,
            note="its manifest is missing, damaged or of a newer version",
        )
    state: str = run.state
    if state == "running" and not files.is_locked(run_lock(run_id)):
        state = "interrupted"
    ended = run.state != "running"
    return RunSummary(
        run_id=run_id,
        requested_run_id=run.requested_run_id or "",
        job=run.job,
        run_date=run.run_date,
        cohort=run.cohort or "",
        model_id=run.model_id or "",
        state=state,
        started_at=run.started_at[:19],
        seconds=round(run.seconds, 1) if ended else None,
        exit_code=(run.exit_code or 0) if ended else None,
        published=published,
        note=run.error or "",
    )
