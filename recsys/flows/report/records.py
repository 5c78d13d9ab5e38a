"""The records and tables that belong to a run, wherever its root is. No Spark."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import OutputError
from recsys.flows.manifest import RunManifest
from recsys.flows.record import read_run
from recsys.ingest.manifest import InteractionsManifest
from recsys.model.manifest import ModelManifest
from recsys.publishing.manifest import VersionManifest
from recsys.publishing.versions import HELD, PUBLICATIONS, RECOMMENDATIONS, STATUS, TITLES
from recsys.store.files import RUNS, Files
from recsys.store.manifest import MANIFEST, File, Manifest, ManifestError
from recsys.store.posix import PosixFiles

# Files of other stores are read whole, so only as many as a driver always has room for.
_MOST_BYTES_ELSEWHERE = 64 * 2**20
_ROWS_AT_ONCE = 200_000

M = TypeVar("M", bound=Manifest)


@dataclass(frozen=True)
class Data:
    """The data files of one table.

    Attributes:
        files: the root.
        uris: the URI of each file.
        bytes: their size together.
    """

    files: Files
    uris: list[str]
    bytes: int

    @property
    def readable(self) -> bool:
        """Whether they can be read here: on a local root, or few bytes elsewhere."""
        return isinstance(self.files, PosixFiles) or self.bytes <= _MOST_BYTES_ELSEWHERE

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield columns of the table in parts, file by file in order of their names.

        Raises:
            OSError, pa.ArrowException: a file is not there or is damaged.
        """
        for uri in self.uris:
            local = isinstance(self.files, PosixFiles)
            place = self.files.path(uri) if local else io.BytesIO(self.files.read(uri))  # type: ignore[attr-defined]
            with pq.ParquetFile(place) as file:
                yield from file.iter_batches(_ROWS_AT_ONCE, columns=list(columns))


@dataclass(frozen=True)
class Version:
    """What a run published, or what a gate held back.

    Attributes:
        uri: its directory.
        manifest: what is said of it.
        held: whether a gate held it back.
    """

    uri: str
    manifest: VersionManifest
    held: bool


class Records:
    """All that is stored of one run; what is not there any more is None.

    Attributes:
        files: the root.
        run: the run's manifest.
    """

    def __init__(self, files: Files, run: RunManifest) -> None:
        """Look at a run of a root."""
        self.files = files
        self.run = run

    @cached_property
    def model(self) -> ModelManifest | None:
        """The model that the run made or used; the record of one that failed does not name it."""
        version = None if self.run.model_id is not None else self.version
        return self.model_of(self.run.model_id if version is None else version.manifest.model_id)

    def model_of(self, model_id: str | None) -> ModelManifest | None:
        """Return the manifest of a model."""
        return self._read(ModelManifest, "models", model_id)

    @cached_property
    def interactions(self) -> InteractionsManifest | None:
        """The interactions that the run prepared, scored with or has its model from."""
        output = self.run.outputs.get("interactions")
        if output is not None:
            found: str | None = output.uri.rstrip("/").rsplit("/", 1)[-1]
        elif self.version is not None:
            found = self.version.manifest.interactions_id
        else:
            found = None if self.model is None else self.model.interactions_id
        return self.interactions_of(found)

    def interactions_of(self, interactions_id: str | None) -> InteractionsManifest | None:
        """Return the manifest of interactions."""
        return self._read(InteractionsManifest, "interactions", interactions_id)

    @cached_property
    def version(self) -> Version | None:
        """The lists that the run published, or that a gate held back."""
        run = self.run
        if run.cohort is None:
            return None
        place = self.files.uri(PUBLICATIONS, run.cohort, run.run_date, run.run_id)
        for uri, held in ((place, False), (self.files.uri(HELD, run.run_id), True)):
            manifest = self._manifest(VersionManifest, f"{uri}/{MANIFEST}")
            if manifest is not None:
                return Version(uri, manifest, held)
        return None

    @cached_property
    def before(self) -> Version | None:
        """The lists that readers saw before, as far as they are kept."""
        version = self.version
        if version is None or version.manifest.compared_with is None:
            return None
        cohort, run_id = version.manifest.cohort, version.manifest.compared_with
        above = self.files.uri(PUBLICATIONS, cohort)
        for day in reversed(self.files.names(above)):
            uri = f"{above}/{day}/{run_id}"
            manifest = self._manifest(VersionManifest, f"{uri}/{MANIFEST}")
            if manifest is not None:
                return Version(uri, manifest, held=False)
        return None

    @cached_property
    def evaluation_before(self) -> RunManifest | None:
        """The complete evaluation that began last before this one, in a local root."""
        if self.run.job != "evaluate" or not isinstance(self.files, PosixFiles):
            return None
        found = [read_run(self.files, name) for name in self.files.names(self.files.uri(RUNS))]
        earlier = [
            one
            for one in found
            if one is not None
            and one.job == "evaluate"
            and one.metrics is not None
            and (one.started_at, one.run_id) < (self.run.started_at, self.run.run_id)
        ]
        return max(earlier, key=lambda one: (one.started_at, one.run_id), default=None)

    def lists(self, version: Version) -> Data:
        """Return the recommendations of a version."""
        files = version.manifest.tables.recommendations.files
        return self._data(f"{version.uri}/{RECOMMENDATIONS}", files)

    def statuses(self, version: Version) -> Data:
        """Return the statuses of a version."""
        return self._data(f"{version.uri}/{STATUS}", version.manifest.tables.status.files)

    def titles(self, version: Version) -> Data | None:
        """Return the titles of a version; None where it was published without any."""
        table = version.manifest.tables.titles
        return None if table is None else self._data(f"{version.uri}/{TITLES}", table.files)

    def pairs(self) -> Data | None:
        """Return the pairs of users and items that the run prepared, or its model learned from."""
        known = self.interactions
        if known is None:
            return None
        place = self.files.uri("interactions", known.interactions_id, "pairs")
        return self._data(place, known.tables.pairs.files)

    def rejects(self) -> Data | None:
        """Return the rows that could not be used."""
        known = self.interactions
        if known is None:
            return None
        place = self.files.uri("rejects", known.interactions_id)
        return self._data(place, known.tables.rejects.files)

    def output(self, name: str) -> Data | None:
        """Return a table that the run has published, by its name."""
        table = self.run.outputs.get(name)
        return None if table is None else self._data(table.uri, table.files or [])

    def _data(self, uri: str, files: Sequence[File]) -> Data:
        places = [f"{uri}/{file.path}" for file in files]
        return Data(self.files, places, sum(file.bytes for file in files))

    def _read(self, kind: type[M], folder: str, name: str | None) -> M | None:
        return (
            None if name is None else self._manifest(kind, self.files.uri(folder, name, MANIFEST))
        )

    def _manifest(self, kind: type[M], uri: str) -> M | None:
        try:
            return kind.from_json(self.files.read(uri))
        except (FileNotFoundError, NotADirectoryError, ManifestError, OutputError):
            return None
