"""The manifest of a run: `runs/<run_id>/manifest.json`."""

import datetime as dt
from typing import Any, Literal

from recsys.evaluate.manifest import EvaluationCounts, Metric
from recsys.ingest.feature_manifest import FeaturesManifest
from recsys.ingest.manifest import InteractionsManifest, PreparationCounts
from recsys.model.features_report import FeatureTrials
from recsys.model.manifest import (
    EarlyStoppingReport,
    ModelManifest,
    NegativesReport,
)
from recsys.model.sample_report import SampleReport
from recsys.publishing.manifest import Verdict, VersionManifest
from recsys.score.manifest import CandidateCounts, SimilarCounts, SimilarFeaturesCounts
from recsys.store.manifest import File, Manifest, Part

RunState = Literal["running", "complete", "failed"]


class OutputTable(Part):
    """A table that a run has published."""

    uri: str
    """Where it is."""
    rows: int
    """Number of rows."""
    files: list[File] | None = None
    """Its data files; null for the tables of a model, whose own manifest has them."""


class SparkSettings(Part):
    """What the Spark session ran with."""

    application_id: str
    """Spark's name of the application."""
    master: str
    """Where it ran."""
    driver_heap_bytes: int
    """Memory of the driver's JVM."""
    default_parallelism: int
    """Tasks that run at once, by default."""
    settings: dict[str, str | None]
    """Settings that the configuration or this package names, secrets redacted."""


class EvaluatedTraining(Part):
    """How the model of an evaluation was trained."""

    epochs: int
    """Epochs that made the model."""
    early_stopping: EarlyStoppingReport | None
    """How the epoch was chosen; null without early stopping."""
    negatives: NegativesReport | None
    """For the logistic loss: what was learned from as negatives; null for other losses."""
    features: FeatureTrials | None
    """How it was measured which features LightFM learns with; null where it was not."""
    sample: SampleReport | None = None
    """Which users it was trained on; null where all were."""


class TuningReport(Part):
    """What a tuning has found."""

    storage: str
    """Where its trials are kept, without a password."""
    study: str
    """Their name there."""
    metric: str
    """What trials are judged by, on held-out pairs."""
    ndcg: float
    """That of the best trial."""
    ndcg_as_configured: float
    """That of the first trial, which trained as configured."""
    best_trial: int
    """The number of the best trial; 0 is usually the first."""
    kept_epoch: int
    """Its best epoch."""
    trials: dict[str, int]
    """The number of trials by state (complete, pruned, diverged or killed), those of earlier
    attempts included."""
    seconds: float
    """How long all of them took together."""
    found: dict[str, int | float | str]
    """The values of the best trial, by key, of what was tuned."""
    configuration: str
    """Where the configuration with these values is."""


class Outcome(Part):
    """What came of a run. What does not apply to its job is null."""

    model_id: str | None = None
    """The model that was made or used."""
    base_model_id: str | None = None
    """The model that was refreshed, or that a training went on from."""
    cohort: str | None = None
    """The cohort that is scored; null for commands without lists."""
    counts: PreparationCounts | None = None
    """Rows and pairs that were prepared."""
    sample: SampleReport | None = None
    """Which users were trained on; null where all were."""
    by_status: dict[str, int] | None = None
    """Number of requested ids by status."""
    candidates: CandidateCounts | None = None
    """What was found in `items.candidates`."""
    similar: SimilarCounts | None = None
    """Whose neighbours were asked for, and what became of them."""
    similar_features: SimilarFeaturesCounts | None = None
    """Whose features were compared, and what became of them."""
    evaluation: EvaluationCounts | None = None
    """Pairs and users of an evaluation."""
    training: EvaluatedTraining | None = None
    """How the model of an evaluation was trained."""
    tuning: TuningReport | None = None
    """What a tuning has found."""
    metrics: list[Metric] | None = None
    """Metrics of an evaluation over all users."""
    report: list[str] | None = None
    """An evaluation or a tuning as lines of text."""
    outputs: dict[str, OutputTable] = {}  # noqa: RUF012 - pydantic copies defaults
    """The tables that were published, by name."""
    gates: list[Verdict] | None = None
    """What each gate found."""
    forced: bool | None = None
    """Whether the result was published although a gate failed."""


class RunManifest(Outcome, Manifest):
    """What is said of a run, from its beginning to its end."""

    run_id: str
    """Its id, which is the name of its directory."""
    requested_run_id: str | None
    """Its id as `--run-id` gave it; null where none was given."""
    job: str
    """Which command ran: run, train, refresh, score, evaluate, tune, similar-items, similar-users
    or similar-features."""
    requested_model: str | None
    """What `--model` or `--from` said, an id or `latest`; null without them."""
    run_date: str
    """The day that it worked for, ISO 8601."""
    state: RunState
    """`running` until it ends, also where its process was killed."""
    started_at: str
    """When the latest attempt began, ISO 8601 in UTC."""
    first_started_at: str
    """When the first attempt of the run began, ISO 8601 in UTC."""
    written_at: str
    """When this was written, ISO 8601 in UTC."""
    configuration: dict[str, Any]
    """The whole configuration, secrets redacted."""
    configuration_hash: str
    """SHA-256 of what has an effect on results."""
    versions: dict[str, str]
    """Versions of this package, Python and the libraries."""
    spark: SparkSettings
    """The Spark session."""
    workers: dict[str, str]
    """Versions of Python and of the packages on a Python worker of Spark's; empty where none was
    looked at."""
    timings_seconds: dict[str, float]
    """Duration of each step."""
    step_rows: dict[str, int]
    """Rows that each step worked on or wrote, for those that have any."""
    driver_peak_bytes: int | None
    """The most memory that the driver's Python has had; null where that is not known."""
    error: str | None = None
    """Why it failed."""
    exit_code: int | None = None
    """Exit status, where it failed."""

    @property
    def seconds(self) -> float:
        """How long the latest attempt has taken, until this was written."""
        start, end = (dt.datetime.fromisoformat(at) for at in (self.started_at, self.written_at))
        return (end - start).total_seconds()


# All kinds of manifests, by the directory that they lie in.
MANIFESTS: dict[str, type[Manifest]] = {
    "features": FeaturesManifest,
    "interactions": InteractionsManifest,
    "models": ModelManifest,
    "publications": VersionManifest,
    "runs": RunManifest,
}
