"""A run as a run of MLflow's, written by its own client and where that is told to."""

import datetime as dt
import math
from collections.abc import Iterator

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from recsys.config.keys import flat
from recsys.config.redaction import redact
from recsys.evaluate.manifest import ALL
from recsys.flows.manifest import RunManifest

# MLflow refuses more in one call, and longer values of parameters.
_MOST, _LONGEST = 100, 500


class Tracking:
    """Writes a run when it has ended: nothing of it stays open where a process is killed."""

    def __init__(self, experiment: str, root: str) -> None:
        """Make the client, as MLflow's own variables say.

        Args:
            experiment: its name.
            root: the URI below which runs are.
        """
        self._client = MlflowClient()
        self._experiment, self._root = experiment, root

    def began(self, manifest: RunManifest) -> None:
        """Leave it until the end."""

    def ended(self, manifest: RunManifest) -> None:
        """Write a run with its settings, numbers and state."""
        began, ended = _millis(manifest.started_at), _millis(manifest.written_at)
        found = self._client.get_experiment_by_name(self._experiment)
        made_in = (
            self._client.create_experiment(self._experiment)
            if found is None
            else found.experiment_id
        )
        run = self._client.create_run(made_in, start_time=began, run_name=manifest.run_id)
        run_id = run.info.run_id
        metrics = [Metric(name, value, ended, 0) for name, value in metrics_of(manifest)]
        params = [Param(name, value) for name, value in params_of(manifest)]
        tags = [RunTag(name, value) for name, value in self._tags(manifest)]
        self._client.log_batch(run_id, tags=tags)
        for first in range(0, max(len(metrics), len(params)), _MOST):
            part = slice(first, first + _MOST)
            self._client.log_batch(run_id, metrics=metrics[part], params=params[part])
        self._client.set_terminated(run_id, state_of(manifest), ended)

    def _tags(self, run: RunManifest) -> Iterator[tuple[str, str]]:
        yield "recsys.root", redact(self._root)
        for name in ("run_id", "job", "run_date", "cohort", "model_id", "configuration_hash"):
            yield f"recsys.{name}", getattr(run, name) or ""
        yield "recsys.error", run.error or ""
        for name, version in run.versions.items():
            yield f"recsys.version.{name}", version


def state_of(run: RunManifest) -> str:
    """Return what MLflow calls the state of a run that has ended."""
    if run.state == "complete":
        return "FINISHED"
    return "KILLED" if run.exit_code in (130, 143) else "FAILED"


def params_of(run: RunManifest) -> Iterator[tuple[str, str]]:
    """Yield the settings for training and scoring, each with its key in the configuration."""
    for section in ("training", "deduplication", "filters", "scoring"):
        for key, value in flat(run.configuration[section], f"{section}."):
            yield key, str(value)[:_LONGEST]


def metrics_of(run: RunManifest) -> Iterator[tuple[str, float]]:
    """Yield the finite numbers of a run."""
    for name, value in _numbers(run):
        if value is not None and math.isfinite(value):
            yield name, float(value)


def _numbers(run: RunManifest) -> Iterator[tuple[str, float | None]]:
    for step, seconds in run.timings_seconds.items():
        yield f"seconds.{step}", seconds
    for step, rows in run.step_rows.items():
        yield f"rows.{step}", rows
    if run.counts is not None:
        for name, value in run.counts:
            if isinstance(value, int):
                yield f"counts.{name}", value
    for name, table in run.outputs.items():
        yield f"table_rows.{name}", table.rows
    for verdict in run.gates or ():
        if isinstance(verdict.found, int | float):
            yield f"gate.{verdict.gate}", verdict.found
    for metric in run.metrics or ():
        if metric.segment == ALL:
            place = "" if metric.k is None else f"_at_{metric.k}"
            yield f"{metric.model}.{metric.metric}{place}", metric.value


def _millis(time: str) -> int:
    return round(dt.datetime.fromisoformat(time).timestamp() * 1000)
