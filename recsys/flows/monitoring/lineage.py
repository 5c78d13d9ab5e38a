"""A run as events of OpenLineage, sent by its own client and where that is told to."""

import datetime as dt
import os
import uuid
from typing import Any
from urllib.parse import urlsplit

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    error_message_run,
    job_type_job,
    nominal_time_run,
    output_statistics_output_dataset,
    parent_run,
    processing_engine_run,
)

from recsys.config.redaction import redact
from recsys.flows.manifest import OutputTable, RunManifest

_PRODUCER = "urn:recsys-batch"
# Set by whoever has started the run, such as Airflow: namespace/job/run.
_PARENT = "OPENLINEAGE_PARENT_ID"


class Lineage:
    """Sends an event when a run begins, and another one when it has ended."""

    def __init__(self, namespace: str, root: str) -> None:
        """Make the client, as its own variables and file say.

        Args:
            namespace: of the job.
            root: the URI below which runs are.
        """
        self._client = OpenLineageClient()
        self._namespace, self._root = namespace, root

    def began(self, manifest: RunManifest) -> None:
        """Say that a run goes on, and what it reads."""
        self._client.emit(self._event(RunState.START, manifest, manifest.started_at))

    def ended(self, manifest: RunManifest) -> None:
        """Say how a run has ended, and what it wrote."""
        stopped = manifest.exit_code in (130, 143)
        failed = RunState.ABORT if stopped else RunState.FAIL
        state = RunState.COMPLETE if manifest.state == "complete" else failed
        self._client.emit(self._event(state, manifest, manifest.written_at))
        self._client.close(10.0)

    def _event(self, state: RunState, run: RunManifest, time: str) -> RunEvent:
        kind = job_type_job.JobTypeJobFacet("BATCH", "RECSYS", "JOB", producer=_PRODUCER)
        name = run.job if run.cohort is None else f"{run.job}.{run.cohort}"
        return RunEvent(
            eventTime=time,
            eventType=state,
            run=Run(runId=run_uuid(self._root, run), facets=_facets(run)),
            job=Job(namespace=self._namespace, name=f"recsys.{name}", facets={"jobType": kind}),
            inputs=[InputDataset(*dataset) for dataset in inputs(run)],
            outputs=[_output(table) for table in run.outputs.values()],
            producer=_PRODUCER,
        )


def run_uuid(root: str, run: RunManifest) -> str:
    """Return the id of an attempt of a run: events need a UUID, and the same one each time."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{root}/runs/{run.run_id}#{run.started_at}"))


def inputs(run: RunManifest) -> list[tuple[str, str]]:
    """Return namespace and name of what the ratings come from; none for a run that scores alone."""
    if run.job == "score" or run.job.startswith("similar"):
        return []
    source = run.configuration["input"]
    if source["table"] is not None:
        return [("spark", source["table"])]
    paths = source["path"] or []
    return [dataset(path) for path in ([paths] if isinstance(paths, str) else paths)]


def dataset(uri: str) -> tuple[str, str]:
    """Return namespace and name of a path or URI, as OpenLineage names them, without secrets."""
    uri = redact(uri)
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        return "file", parts.path.rstrip("/") if parts.scheme else os.path.abspath(uri)  # noqa: PTH100
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/") or "/"


def _output(table: OutputTable) -> OutputDataset:
    files = table.files
    counted = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=table.rows,
        size=None if files is None else sum(file.bytes for file in files),
        fileCount=None if files is None else len(files),
        producer=_PRODUCER,
    )
    namespace, name = dataset(table.uri)
    return OutputDataset(namespace, name, outputFacets={"outputStatistics": counted})


def _facets(run: RunManifest) -> dict[str, Any]:
    day = dt.date.fromisoformat(run.run_date)
    begin = dt.datetime.combine(day, dt.time(), dt.UTC).isoformat()
    facets: dict[str, Any] = {
        "nominalTime": nominal_time_run.NominalTimeRunFacet(begin, producer=_PRODUCER),
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
            version=run.versions.get("pyspark", "unknown"),
            name="spark",
            openlineageAdapterVersion=run.versions.get("recsys", "unknown"),
            producer=_PRODUCER,
        ),
    }
    namespace, _, rest = os.environ.get(_PARENT, "").partition("/")
    job, _, parent = rest.rpartition("/")
    if job and parent:
        facets["parent"] = parent_run.ParentRunFacet(
            run=parent_run.Run(parent), job=parent_run.Job(namespace, job), producer=_PRODUCER
        )
    if run.error is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            run.error, "PYTHON", producer=_PRODUCER
        )
    return facets
