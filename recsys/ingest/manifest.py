"""The manifest of prepared interactions: `interactions/<id>/manifest.json`."""

from pydantic import Field

from recsys.columns import IdTypes
from recsys.store.manifest import Part, SealedManifest, WrittenTable


class InputFile(Part):
    """One file of the input."""

    path: str
    """Its URI, without secrets."""
    bytes: int
    """Size."""
    modified_micros: int
    """Time of the last change, microseconds since 1970."""


class InputState(Part):
    """What tells one state of the input from another."""

    format: str
    """As in the configuration: csv, parquet, json, orc or table."""
    name: str | list[str]
    """The paths, or the name of the table."""
    files: int
    """How many files there were; 0 for a table that does not consist of files."""
    bytes: int
    """Their size together."""
    sha256_of_listing: str
    """Checksum of the paths, sizes and times of all files."""
    listing: list[InputFile] | None = None
    """The files, where there are only a few."""
    settings: dict[str, str] = Field(default={})
    """Settings of the session that change what is read, where they are not the usual ones."""


class TimestampRange(Part):
    """The range of the timestamps of accepted rows."""

    first: str
    """The earliest, in UTC."""
    last: str
    """The latest, in UTC."""


class PreparationCounts(Part):
    """How many rows were read and what became of them."""

    rows_read: int
    """Rows of the input."""
    rows_accepted: int
    """Rows that could be used."""
    rows_rejected: int
    """Rows that could not; they are in the table of rejects."""
    rejected_by_reason: dict[str, int]
    """The same by reason, the most frequent first."""
    rows_with_rating_zero: int
    """Accepted rows whose rating is 0."""
    pairs: int
    """Pairs of a user and an item after deduplication."""
    conflicting_pairs: int
    """Pairs whose rows had different ratings."""
    positive_pairs: int
    """Pairs that training takes as positive."""
    negative_pairs: int
    """Pairs that training takes as negative."""
    pairs_left_out: int
    """Pairs that training leaves out; they still count as seen."""
    users: int
    """Users with a pair."""
    items: int
    """Items with a pair."""
    users_in_training: int
    """Users with a positive or negative pair."""
    items_in_training: int
    """Items with a positive or negative pair."""


class InteractionsTables(Part):
    """The tables of prepared interactions."""

    pairs: WrittenTable
    """One row a pair, below `interactions/<id>/pairs`."""
    rejects: WrittenTable
    """One row a rejected row, below `rejects/<id>`."""


class InteractionsManifest(SealedManifest):
    """What is said of prepared interactions."""

    interactions_id: str
    """Their id, which is the name of their directory."""
    run_id: str
    """The run that prepared them."""
    id_types: IdTypes
    """Types of the ids."""
    input: InputState
    """What they were read from."""
    counts: PreparationCounts
    """How many rows and pairs there are."""
    timestamps: TimestampRange | None
    """The range of the timestamps; null without timestamps."""
    warnings: list[str]
    """What looks wrong, as it was logged."""
    tables: InteractionsTables
    """The files that were written."""
