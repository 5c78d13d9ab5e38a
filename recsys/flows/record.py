"""A run's own record: `<root>/runs/<run_id>/manifest.json`, from its beginning to its end."""

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from recsys.config.configuration import Config
from recsys.errors import ConfigError, LostLockError, OutputError, UnreadableError
from recsys.flows.manifest import Outcome, RunManifest, RunState, SparkSettings
from recsys.model.listing import LATEST, latest_model
from recsys.publishing.manifest import Verdict
from recsys.runtime.run import Run, versions
from recsys.runtime.steps import peak_bytes
from recsys.store.files import RUNS, Files
from recsys.store.manifest import MANIFEST, ManifestError, OtherVersionError

log = logging.getLogger(__name__)

_WITH_LISTS = ("run", "refresh", "score")
# What makes a run with the same id the same run.
_IDENTITY = ("job", "run_date", "configuration_hash", "model_id", "base_model_id")


def read_run(files: Files, run_id: str) -> RunManifest | None:
    """Return the manifest of a run, or None where there is none that can be read."""
    try:
        return RunManifest.from_json(files.read(files.uri(RUNS, run_id, MANIFEST)))
    except (FileNotFoundError, ManifestError, OutputError):  # a stray file, not a directory
        return None


def earlier_attempt(files: Files, run_id: str) -> RunManifest | None:
    """Return the manifest of an earlier attempt; None where there is none, or a damaged one.

    Raises:
        ConfigError: another version of this package wrote it, so this one must not replace it.
    """
    uri = files.uri(RUNS, run_id, MANIFEST)
    try:
        return RunManifest.from_json(files.read(uri))
    except FileNotFoundError:
        return None
    except OtherVersionError as error:
        raise ConfigError(f"--run-id: {uri}: {error}, or choose another run id") from error
    except (ManifestError, UnreadableError) as error:
        log.warning("%s is damaged and will be written anew: %s", uri, error)
        return None


def continued(run: Run, earlier: RunManifest | None, *, dated: bool) -> Run:
    """Return a run as the next attempt of what an earlier one has begun.

    Args:
        run: this attempt, as if it were the first.
        earlier: the manifest of the attempt before; None where there is none.
        dated: whether the run date was asked for. One that was not is that of the first attempt,
            so that a retry after midnight is still one.
    """
    if earlier is None:
        return run
    date = run.run_date if dated else dt.date.fromisoformat(earlier.run_date)
    first = dt.datetime.fromisoformat(earlier.first_started_at)
    return replace(run, run_date=date, first_started_at=first)


class RunRecord:
    """Writes the manifest of one run."""

    def __init__(
        self,
        files: Files,
        job: str,
        run: Run,
        config: Config,
        *,
        model_id: str | None,
        base_of: str | None = None,
        spark: SparkSettings,
        earlier: RunManifest | None,
    ) -> None:
        """Describe a run.

        Args:
            files: the root.
            job: the job's name.
            run: its id and date.
            config: its configuration.
            model_id: the model that it is asked to use, or `latest`; None where it uses none.
            base_of: the option that named it, where another model is made from it; else None.
            spark: what the session runs with.
            earlier: the manifest of the attempt before; None where there is none.
        """
        self._files = files
        self._run = run
        self._earlier = earlier
        self._requested_model = model_id
        self._model_id = None if model_id == LATEST else model_id
        self._base_of = base_of
        # In what the model that is used stands in the record.
        self._field = "model_id" if base_of is None else "base_model_id"
        self._cohort = config.cohort.name if job in _WITH_LISTS else None
        self._about: dict[str, Any] = {
            "schema_version": RunManifest.SCHEMA_VERSION,
            "run_id": run.run_id,
            "requested_run_id": run.requested_run_id,
            "job": job,
            "requested_model": model_id,
            "run_date": run.run_date.isoformat(),
            "configuration_hash": config.fingerprint(),
            "started_at": run.started_at.isoformat(),
            "first_started_at": run.first_started_at.isoformat(),
            "configuration": config.public(),
            "versions": versions(),
            "spark": spark,
        }

    def finished_before(self) -> RunManifest | None:
        """Return the manifest of an earlier attempt that finished, or None.

        Raises:
            ConfigError: the run id is that of a finished run that was asked for something else, or
                has the name of another one.
        """
        earlier = self._earlier
        if earlier is not None:
            self._about["requested_run_id"] = self._same_run(earlier)
            if (earlier.job, earlier.requested_model) == (self._about["job"], LATEST):
                self._model_id = self._model_id or getattr(earlier, self._field)
        if earlier is None or earlier.state != "complete":
            return None
        model_id = self._model_id
        if self._requested_model == LATEST and model_id is None:
            model_id = self._latest()
        models = {"model_id": earlier.model_id, "base_model_id": None}
        if model_id is not None:
            models[self._field] = model_id
        asked = {**self._about, **models}
        different = [name for name in _IDENTITY if getattr(earlier, name) != asked[name]]
        if different:
            raise ConfigError(
                f"--run-id: run {self._run.run_id} is complete already, with another "
                f"{' and '.join(different).replace('_', ' ')}; choose another run id"
            )
        return earlier

    def _same_run(self, earlier: RunManifest) -> str | None:
        """Return what an earlier attempt was called, which may be called by its name now."""
        requested, before = self._run.requested_run_id, earlier.requested_run_id
        if requested not in (before, earlier.run_id):
            raise ConfigError(
                f"--run-id: found {requested!r}, but {earlier.run_id}, the name that it gets, is "
                f"that of run {before!r} already; choose another run id"
            )
        return before

    def begin(self) -> RunManifest:
        """Say that the run goes on."""
        return self._write("running", self._begun())

    def choose_model(self) -> str | None:
        """Return the id of the model that the run uses; None where it uses none.

        What `latest` is, the first attempt of a run decides and records. The next attempts use the
        same model, also where there is a newer one by then: another model would make another run.

        Raises:
            ModelError: the latest is asked for, and there is none.
        """
        if self._requested_model == LATEST:
            if self._model_id is None:
                self._model_id = self._latest()
                self.begin()
            log.info("%s %s: model %s", self._base_of or "--model", LATEST, self._model_id)
        return self._model_id

    def _latest(self) -> str:
        option = self._base_of
        return latest_model(self._files, option or "--model", trained=option is not None)

    def _begun(self) -> Outcome:
        """Say what is known before anything came of the run."""
        begun = Outcome(cohort=self._cohort)
        return begun.model_copy(update={self._field: self._model_id})

    def complete(self, outcome: Outcome) -> RunManifest:
        """Say that the run is complete and what came of it; this is written last of all."""
        if self._base_of is not None:
            outcome = outcome.model_copy(update={self._field: self._model_id})
        return self._write("complete", outcome)

    def fail(
        self, error: str, exit_code: int, gates: Sequence[Verdict] | None = None
    ) -> RunManifest | None:
        """Say why the run ended, without hiding that reason behind another.

        Args:
            error: the reason, in one line.
            exit_code: the exit status.
            gates: what each gate found, where one of them is the reason.

        Returns:
            What was recorded; None where that could not be.
        """
        try:
            came = self._begun().model_copy(update={"gates": gates})
            return self._write("failed", came, error=error, exit_code=exit_code)
        except LostLockError as lost:  # the record may be another attempt's by now
            log.warning("the failure is not recorded: %s", lost)
            return None
        except Exception as failure:
            log.debug("could not record the failure", exc_info=failure)
            return None

    def _write(self, state: RunState, outcome: Outcome, **more: Any) -> RunManifest:
        manifest = RunManifest(
            **self._about,
            **dict(outcome),
            **more,
            state=state,
            written_at=dt.datetime.now(dt.UTC).isoformat(),
            timings_seconds=dict(self._run.timings),
            step_rows=dict(self._run.rows),
            driver_peak_bytes=peak_bytes(),
            workers=dict(self._run.workers),
        )
        uri = self._files.uri(RUNS, self._run.run_id, MANIFEST)
        self._files.replace(uri, manifest.to_json())
        return manifest
