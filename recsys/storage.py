"""Where tables and manifests lie: any path that Spark can write to.

Everything is written beside its place (under `_staging`), verified there, and moved into its place
by one rename of a directory. What a reader can see is complete.
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException, PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from recsys.errors import OutputError
from recsys.files import local_files
from recsys.redaction import redact
from recsys.session import spark_reason

STAGING = "_staging"


class Store:
    """One root directory, reached through Hadoop's file systems.

    Paths are relative to the root and made of names that the callers have checked.
    """

    def __init__(self, spark: SparkSession, root: str) -> None:
        self._spark = spark
        jvm = spark.sparkContext._jvm
        assert jvm is not None  # noqa: S101 - a started context has one
        self._hadoop = jvm.org.apache.hadoop.fs
        conf = spark.sparkContext._jsc.hadoopConfiguration()
        try:
            path = self._hadoop.Path(root)
            self._fs = path.getFileSystem(conf)
            self.root: str = self._fs.makeQualified(path).toString().rstrip("/")
        except Py4JJavaError as error:
            raise OutputError(
                f"root {redact(root)} cannot be reached: {spark_reason(error)}; check its scheme, "
                "and that Spark has the store's libraries"
            ) from error
        # Without this the local file system leaves a .crc file beside every manifest.
        self._fs.setWriteChecksum(False)

    def uri(self, *parts: str) -> str:
        """Return the full URI of a place below the root."""
        return "/".join([self.root, *parts])

    def local(self, uri: str) -> Path | None:
        """Return the local path of a URI below the root, or None where the root is elsewhere.

        Hadoop writes paths as they are: `%20` in one is three characters.
        """
        path = uri.removeprefix("file:")
        return None if path == uri else Path("/" + path.lstrip("/"))

    def exists(self, uri: str) -> bool:
        """Whether there is a file or directory."""
        return bool(self._fs.exists(self._hadoop.Path(uri)))

    def delete(self, uri: str) -> None:
        """Delete a file or a directory with all below it; nothing happens where there is none."""
        self._fs.delete(self._hadoop.Path(uri), True)

    def read_json(self, uri: str) -> Any:
        """Read a small JSON file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is not JSON.
        """
        path = self._hadoop.Path(uri)
        if not self._fs.exists(path):
            raise FileNotFoundError(uri)
        stream = self._fs.open(path)
        try:
            content = bytes(stream.readAllBytes())
        except Py4JError as error:  # a checksum of the file system's own does not fit
            raise ValueError("the file system reports damage") from error
        finally:
            stream.close()
        return json.loads(content.decode("utf-8"))

    def write_json(self, uri: str, value: Any) -> None:
        """Write a small JSON file beside its place, then move it there.

        On a local path that is one atomic step, and needs no JVM.
        """
        content = json.dumps(value, indent=2, ensure_ascii=False, default=str).encode()
        if (local := self.local(uri)) is not None:
            try:
                local.parent.mkdir(parents=True, exist_ok=True)
                local.with_name(local.name + ".tmp").write_bytes(content)
                local.with_name(local.name + ".tmp").replace(local)
            except OSError as error:
                raise OutputError(f"cannot write {local}: {error.strerror}") from error
            return
        beside = self._hadoop.Path(uri + ".tmp")
        with self._writing(uri):
            stream = self._fs.create(beside, True)
            try:
                stream.write(content)
            finally:
                stream.close()
        self._move(beside, self._hadoop.Path(uri))

    @contextmanager
    def staging(self, run_id: str) -> Iterator[str]:
        """Give a fresh directory beside the tables, and remove it whatever happens."""
        place = self.uri(STAGING, run_id)
        self.delete(place)
        try:
            yield place
        finally:
            try:
                self._wait_for_no_tasks()
                self.delete(place)
                with suppress(Py4JError):  # not empty: another run stages there
                    self._fs.delete(self._hadoop.Path(self.uri(STAGING)), False)
            except (Py4JError, OSError):
                # The JVM is gone, so Hadoop cannot do it; a local directory still can be removed.
                # What is left elsewhere, the next run with this id removes.
                if (local := self.local(place)) is not None:
                    shutil.rmtree(local, ignore_errors=True)
                    with suppress(OSError):
                        local.parent.rmdir()

    def _wait_for_no_tasks(self) -> None:
        """Cancel what still runs, since a task could write again what is about to be deleted."""
        context = self._spark.sparkContext
        context.cancelAllJobs()
        for _ in range(100):
            if not context.statusTracker().getActiveStageIds():
                return
            time.sleep(0.1)

    def publish(self, staged: str, place: str) -> None:
        """Move a staged directory into its place, replacing an unfinished one.

        Raises:
            OutputError: the file system refused.
        """
        target = self._hadoop.Path(place)
        with self._writing(place):
            self._fs.mkdirs(target.getParent())
        self._move(self._hadoop.Path(staged), target)

    def _move(self, source: Any, target: Any) -> None:
        with self._writing(target.toString()):
            self._fs.delete(target, True)
            moved = self._fs.rename(source, target)
        if not moved:
            raise OutputError(
                f"could not move {source.toString()} to {target.toString()}; look for another "
                "writer, and run again with the same run id"
            )

    @contextmanager
    def _writing(self, place: str) -> Iterator[None]:
        """Turn what Hadoop or Spark says when it cannot write into an OutputError of one line."""
        try:
            yield
        except PythonException:
            raise  # scoring failed, not writing
        except (Py4JJavaError, PySparkException) as error:
            raise OutputError(
                f"cannot write {place}: {spark_reason(error)}; check root and its permissions"
            ) from error

    def write_table(
        self, frame: DataFrame, uri: str, schema: str, *, partitioned_by: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Write a Parquet table, read it back, and return what a manifest says of it.

        Returns:
            `rows`, and `files`: path relative to the table, size in bytes and SHA-256 of each.

        Raises:
            OutputError: what was written does not have the promised schema.
        """
        promised = [(field.name, field.dataType) for field in self._parsed(schema)]
        if [(field.name, field.dataType) for field in frame.schema] != promised:
            raise OutputError(f"expected the columns {schema}, found {frame.schema.simpleString()}")
        with self._writing(uri):
            frame.write.mode("errorifexists").partitionBy(*partitioned_by).parquet(uri)
        return {"rows": self.read_table(uri, schema).count(), "files": self.files(uri)}

    def _parsed(self, schema: str) -> StructType:
        parsed = StructType.fromDDL(schema)
        if not isinstance(parsed, StructType):
            raise OutputError(f"expected the schema of a table, found {schema}")
        return parsed

    def read_table(self, uri: str, schema: str) -> DataFrame:
        """Read a Parquet table with the schema that it was written with."""
        return self._spark.read.schema(schema).parquet(uri)

    def files(self, uri: str) -> list[dict[str, Any]]:
        """Return path, size in bytes and SHA-256 of each data file of a table, in order of path."""
        if (local := self.local(uri)) is not None:
            return local_files(local)
        base = len(uri.rstrip("/")) + 1
        found = (
            self._spark.read.format("binaryFile")
            .option("pathGlobFilter", "*.parquet")
            .option("recursiveFileLookup", "true")
            .load(uri)
            .select("path", "length", F.sha2("content", 256).alias("sha256"))
            .collect()
        )
        return sorted(
            ({"path": row.path[base:], "bytes": row.length, "sha256": row.sha256} for row in found),
            key=lambda file: file["path"],
        )
