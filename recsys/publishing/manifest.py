"""The manifest of a version: `publications/<cohort>/<run_date>/<run_id>/manifest.json`."""

from typing import Any, Literal

from recsys.model.manifest import TrainedModel
from recsys.score.manifest import CandidateCounts
from recsys.store.manifest import Manifest, Part, WrittenTable

State = Literal["passed", "failed", "not applied"]


class Verdict(Part):
    """What a gate found."""

    gate: str
    """Its name."""
    state: State
    """`passed`, `failed` or `not applied`."""
    found: float | int | str | None
    """A number of faults, or what is compared with the limit; null where nothing is known."""
    allowed: str
    """The limit, with its key in the configuration."""
    reason: str | None = None
    """Why the gate was not applied, or what is wrong, with an example."""

    def __str__(self) -> str:
        """Say it in one line."""
        found = f"{self.found:.4g}" if isinstance(self.found, float) else self.found
        reason = "" if self.reason is None else f" ({self.reason})"
        return f"{self.gate}: found {found}, allowed {self.allowed}{reason}"


class PublishedLists(WrittenTable):
    """The table of recommendations."""

    candidates: CandidateCounts | None = None
    """What was found in `items.candidates`; null where it is not set."""


class PublishedStatuses(WrittenTable):
    """The table of statuses."""

    by_status: dict[str, int]
    """Number of rows by status."""


class VersionTables(Part):
    """The tables of a version."""

    recommendations: PublishedLists
    """One row a user and rank."""
    status: PublishedStatuses
    """One row a requested id."""
    titles: WrittenTable | None = None
    """What the items of the model are called, one row an item; null without `items.titles`."""

    @property
    def names(self) -> list[str]:
        """The names of those that there are; recommendations, which decide, are the last."""
        return ["status", *(["titles"] if self.titles else []), "recommendations"]

    def of(self, name: str) -> WrittenTable:
        """Return a table by its name, one of `names`."""
        table: WrittenTable = getattr(self, name)
        return table


class VersionManifest(Manifest):
    """What is said of a version."""

    run_id: str
    """The run that made it."""
    run_date: str
    """The day that it is for, ISO 8601."""
    cohort: str
    """The cohort that it is for."""
    model_id: str
    """The model that the lists were made with."""
    model: TrainedModel
    """Where this model comes from."""
    configuration: dict[str, Any]
    """The whole configuration, secrets redacted."""
    configuration_hash: str
    """SHA-256 of what has an effect on results."""
    versions: dict[str, str]
    """Versions of this package, Python and the libraries."""
    schemas: dict[str, dict[str, str]]
    """Columns and Spark types of each table."""
    tables: VersionTables
    """The files that were written."""
    compared_with: str | None
    """The run whose version readers saw before; null where there was none."""
    gates: list[Verdict]
    """What each gate found."""
    forced: bool
    """Whether it was published although a gate failed."""
    failed_gates: list[str]
    """Names of the gates that failed."""

    @property
    def interactions_id(self) -> str:
        """The interactions that say what users have done: the model's, or newer ones."""
        newer: str | None = self.configuration.get("scoring", {}).get("interactions")
        return newer or self.model.interactions_id
