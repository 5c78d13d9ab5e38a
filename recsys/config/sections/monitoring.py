"""The section about who else is told of a run."""

from typing import Annotated

from pydantic import Field

from recsys.config.sections.types import METRICS_PATTERN, NonEmpty, Place, Section


class Monitoring(Section):
    """Who else is told of a run, beside its log and its record.

    Nothing of it changes a result. When a file cannot be written or a server does not answer, the
    log has a line, and the run goes on.
    """

    metrics_file: Annotated[Place, Field(pattern=METRICS_PATTERN)] | None = None
    """A local file, whose name ends in `.prom`, for the numbers of the latest run in OpenMetrics
    form: its result, the seconds and rows of its steps, its counts and gates, and when readers were
    last given new lists. It is for the textfile collector of Prometheus's node exporter. Its
    directory has to be there. Give each command and cohort a file of its own. null: there is none.
    """
    openlineage: NonEmpty | None = None
    """The namespace of the job in OpenLineage's events, which say that a run began and how it
    ended, with what it read and wrote. Where they are sent, OpenLineage's own client is told:
    OPENLINEAGE_URL, OPENLINEAGE_CONFIG or openlineage.yml. It needs the extra `lineage`. null: none
    are sent."""
    mlflow: NonEmpty | None = None
    """The name of an experiment of MLflow's, in which each run becomes a run with its settings for
    training, its counts, timings, gates and metrics. Where it is, MLflow's own client is told:
    MLFLOW_TRACKING_URI. It needs the extra `mlflow`. null: nothing is written there."""
