"""A run's own record: `<root>/runs/<run_id>/manifest.json`, from its beginning to its end."""

import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any

from recsys.config.configuration import Config
from recsys.errors import ConfigError
from recsys.runs.run import FORMAT_VERSION, Run, versions
from recsys.store.checksums import MANIFEST
from recsys.store.files import RUNS, Files, read_json, write_json

log = logging.getLogger(__name__)


def recorded_date(files: Files, run_id: str) -> dt.date | None:
    """Return the run date of an earlier attempt, so that a retry after midnight is still one."""
    try:
        return dt.date.fromisoformat(
            read_json(files, files.uri(RUNS, run_id, MANIFEST))["run_date"]
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def run_lock(run_id: str) -> str:
    """Name the lock that a run holds from its beginning to its end."""
    return f"run-{run_id}"


class RunRecord:
    """The manifest of one run of one job."""

    def __init__(
        self,
        files: Files,
        job: str,
        run: Run,
        config: Config,
        *,
        asked: Mapping[str, Any],
        spark: Mapping[str, Any],
    ) -> None:
        """Describe a run.

        Args:
            files: the root.
            job: the job's name.
            run: its id and date.
            config: its configuration.
            asked: what else makes a retry the same run.
            spark: what the session runs with.
        """
        self._files = files
        self._run = run
        self._uri = files.uri(RUNS, run.run_id, MANIFEST)
        self._identity = {
            "job": job,
            "run_date": run.run_date.isoformat(),
            "configuration_hash": config.fingerprint(),
            **asked,
        }
        self._content = {
            "format_version": FORMAT_VERSION,
            "run_id": run.run_id,
            **self._identity,
            "started_at": run.started_at.isoformat(),
            "configuration": config.public(),
            "versions": versions(),
            "spark": dict(spark),
        }

    def finished_before(self) -> dict[str, Any] | None:
        """Return the manifest of an earlier attempt that finished, or None.

        Raises:
            ConfigError: the run id is that of a finished run that was asked for something else.
        """
        try:
            earlier: dict[str, Any] = read_json(self._files, self._uri)
        except (FileNotFoundError, ValueError):
            return None
        if earlier.get("state") != "complete":
            return None
        different = [k for k, v in self._identity.items() if earlier.get(k) != v]
        if different:
            raise ConfigError(
                f"--run-id: run {self._run.run_id} is complete already, with another "
                f"{' and '.join(different).replace('_', ' ')}; choose another run id"
            )
        return earlier

    def begin(self) -> None:
        """Say that the run goes on."""
        self._write("running")

    def complete(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Say that the run is complete and what came of it; this is written last of all."""
        return self._write("complete", **result)

    def fail(self, error: str, exit_code: int) -> None:
        """Say why the run ended, without hiding that reason behind another."""
        try:
            self._write("failed", error=error, exit_code=exit_code)
        except Exception as failure:
            log.debug("could not record the failure", exc_info=failure)

    def _write(self, state: str, **more: Any) -> dict[str, Any]:
        content = {
            **self._content,
            "state": state,
            "written_at": dt.datetime.now(dt.UTC).isoformat(),
            "timings_seconds": self._run.timings,
            **more,
        }
        write_json(self._files, self._uri, content)
        return content
