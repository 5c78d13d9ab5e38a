"""The latest run in numbers, as a file for the textfile collector of Prometheus's node exporter.

All of them are gauges, without times of their own: so the file is right both as OpenMetrics and as
the older text format, which is what the collector reads.
"""

import datetime as dt
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.exposition import generate_latest

from recsys.config.redaction import redact
from recsys.errors import ConfigError
from recsys.evaluate.manifest import ALL
from recsys.flows.manifest import RunManifest
from recsys.publishing.versions import Version
from recsys.store.files import require_local, scheme

_KEY = "monitoring.metrics_file"
# On every metric: two files with other values of these do not contradict each other.
_OF_ALL = ("command", "cohort")


def check(path: str) -> None:
    """Refuse a file that cannot be written.

    Raises:
        ConfigError: it is not local, its directory is missing, or this process may not write there.
    """
    if scheme(path) != "file":
        raise ConfigError(
            f"{_KEY}: found {redact(path)}, expected a local path: it is written for a collector "
            "on this machine; name a file here"
        )
    folder = require_local(path, _KEY).absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{_KEY}: found {path}, expected a file in a directory that is there and can be "
            f"written to; make {folder}, or choose another"
        )


class MetricsFile:
    """Writes the file at the end of a run."""

    def __init__(self, path: str, published: Callable[[str], Version | None]) -> None:
        """Remember where.

        Args:
            path: the file.
            published: returns what readers see of a cohort's latest run date.
        """
        self._path = require_local(path, _KEY)
        self._published = published

    def began(self, manifest: RunManifest) -> None:
        """Leave the file as it is: it is about runs that have ended."""

    def ended(self, manifest: RunManifest) -> None:
        """Write the file beside its place, and move it there."""
        published = None if manifest.cohort is None else self._published(manifest.cohort)
        _replace(self._path, render(manifest, published))


def render(manifest: RunManifest, published: Version | None = None) -> bytes:
    """Return a run as metrics in OpenMetrics form.

    Args:
        manifest: of a run that has ended.
        published: what readers see of its cohort's latest run date; None: nothing.
    """
    made = _Metrics({"command": manifest.job, "cohort": manifest.cohort or ""})
    _about_run(made, manifest)
    _about_steps(made, manifest)
    _about_rows(made, manifest)
    _about_results(made, manifest)
    if published is not None:
        day = dt.datetime.combine(published.unit.run_date, dt.time(), dt.UTC).timestamp()
        when = _seconds(published.published_at)
        made.add("published_timestamp_seconds", "When what readers see was published.", when)
        made.add("published_run_date_seconds", "The beginning of its run date, in UTC.", day)
    content: bytes = generate_latest(made.registry)  # type: ignore[no-untyped-call]
    return content


class _Metrics:
    """A registry in which each metric has the labels of all."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.registry = CollectorRegistry()
        self._labels = labels

    def add(self, name: str, about: str, value: float | None) -> None:
        """Add a metric with a single value; None adds nothing."""
        if value is not None:
            gauge = Gauge(f"recsys_{name}", about, _OF_ALL, registry=self.registry)
            gauge.labels(**self._labels).set(value)

    def add_each(self, name: str, about: str, label: str, values: Mapping[str, float]) -> None:
        """Add a metric with a value for each value of a label; none adds nothing."""
        if values:
            gauge = Gauge(f"recsys_{name}", about, (*_OF_ALL, label), registry=self.registry)
            for key, value in values.items():
                gauge.labels(**self._labels, **{label: key}).set(value)

    def add_info(self, name: str, about: str, values: Mapping[str, str]) -> None:
        """Add a 1 with texts as labels."""
        gauge = Gauge(f"recsys_{name}", about, (*_OF_ALL, *values), registry=self.registry)
        gauge.labels(**self._labels, **values).set(1)


def _about_run(made: _Metrics, run: RunManifest) -> None:
    info = {
        "run_id": run.run_id,
        "run_date": run.run_date,
        "model_id": run.model_id or "",
        "version": run.versions.get("recsys", ""),
    }
    made.add_info("run_info", "The latest run.", info)
    began, ended = _seconds(run.started_at), _seconds(run.written_at)
    complete = run.state == "complete"
    made.add("run_success", "Whether it is complete.", float(complete))
    made.add("run_exit_status", "Its exit status.", 0 if complete else run.exit_code or 1)
    made.add("run_start_timestamp_seconds", "When its latest attempt began.", began)
    made.add("run_end_timestamp_seconds", "When it ended.", ended)
    made.add("run_seconds", "How long its latest attempt took.", round(ended - began, 3))
    made.add("driver_peak_bytes", "Most memory of the driver's Python.", run.driver_peak_bytes)


def _about_steps(made: _Metrics, run: RunManifest) -> None:
    made.add_each("step_seconds", "How long a step took.", "step", run.timings_seconds)
    made.add_each("step_rows", "Rows that a step worked on or wrote.", "step", run.step_rows)


def _about_rows(made: _Metrics, run: RunManifest) -> None:
    counts = run.counts
    if counts is not None:
        made.add("rows_read", "Rows of the input.", counts.rows_read)
        made.add("rows_rejected", "Rows that cannot be used.", counts.rows_rejected)
        reasons = counts.rejected_by_reason
        made.add_each("rows_rejected_by_reason", "The same by reason.", "reason", reasons)
        kinds = {
            "positive": counts.positive_pairs,
            "negative": counts.negative_pairs,
            "left out": counts.pairs_left_out,
        }
        made.add_each("pairs", "Pairs of a user and an item.", "kind", kinds)
        made.add("users_in_training", "Users of pairs to train on.", counts.users_in_training)
        made.add("items_in_training", "Items of pairs to train on.", counts.items_in_training)
    made.add_each("requests", "Requested ids by status.", "status", run.by_status or {})
    rows = {name: table.rows for name, table in run.outputs.items()}
    made.add_each("table_rows", "Rows of the tables that it published.", "table", rows)


def _about_results(made: _Metrics, run: RunManifest) -> None:
    gates = run.gates or ()
    judged = {v.gate: float(v.state == "passed") for v in gates if v.state != "not applied"}
    made.add_each("gate_passed", "Whether a gate was passed.", "gate", judged)
    found = {v.gate: v.found for v in gates if isinstance(v.found, int | float)}
    made.add_each("gate_found", "What a gate compared with its limit.", "gate", found)
    if run.forced is not None:
        made.add("run_forced", "Whether it was published by --force.", float(run.forced))
    measured = {
        m.metric if m.k is None else f"{m.metric}@{m.k}": m.value
        for m in run.metrics or ()
        if m.segment == ALL and m.model == "model" and m.value is not None
    }
    made.add_each("evaluation", "What an evaluation measured, over all users.", "metric", measured)


def _seconds(time: str) -> float:
    return dt.datetime.fromisoformat(time).timestamp()


def _replace(path: Path, content: bytes) -> None:
    # The collector reads *.prom alone, so nothing that is half written.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)  # the node exporter is another user
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
