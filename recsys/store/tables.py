"""Where tables lie: any path that Spark can write to.

Everything is written beside its place (under `_staging`), verified there, and moved into its place
by one rename of a directory.
"""

import io
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException, PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from recsys.errors import LostLockError, OutputError, RecsysError
from recsys.runtime.disks import full_disk, is_full
from recsys.runtime.hadoop import of_session
from recsys.runtime.jvm_shutdown import DRIVER_GONE
from recsys.runtime.signals import check_stop
from recsys.runtime.spark_errors import over_result_limit, spark_reason
from recsys.runtime.workers import worker_error
from recsys.store.checksums import local_files
from recsys.store.files import STAGING, Files, local_path, scheme
from recsys.store.hadoop import HadoopFiles
from recsys.store.manifest import File, WrittenTable
from recsys.store.posix import make_directory, open_local

_PIECE = 64 * 2**20


class Store:
    """One root directory and the tables below it.

    Attributes:
        files: its small files, directories and locks.
        root: its full URI.
    """

    def __init__(self, spark: SparkSession, root: str) -> None:
        self._spark = spark
        self.files: Files = _open(spark, root)
        self.root = self.files.root

    def uri(self, *parts: str) -> str:
        """Return the full URI of a place below the root."""
        return self.files.uri(*parts)

    def exists(self, uri: str) -> bool:
        """Whether there is a file or directory."""
        return self.files.exists(uri)

    def delete(self, uri: str) -> None:
        """Delete a file or a directory with all below it; nothing happens where there is none."""
        self.files.delete(uri)

    def ensure_alive(self) -> None:
        """Raise unless Spark's driver answers; without it this process must not publish."""
        try:
            context = self._spark.sparkContext
            assert context._jvm is not None  # noqa: S101 - a started context has one
            context._jvm.java.lang.System.currentTimeMillis()
            stopped = context._jsc.sc().isStopped()
        except (Py4JError, OSError, AttributeError) as error:
            raise OutputError(DRIVER_GONE) from error
        if stopped:
            raise OutputError(
                "the Spark session was stopped before the run was complete; run again with the "
                "same run id"
            )

    @contextmanager
    def staging(self, run_id: str) -> Iterator[str]:
        """Give a fresh directory beside the tables, and remove it whatever happens.

        The caller holds the run's lock: what lies there is of an attempt that was killed.
        """
        place = self.uri(STAGING, run_id)
        self.delete(place)
        if (path := local_path(place)) is not None:
            make_directory(path)  # another run removes an empty parent
        try:
            yield place
        finally:
            # The JVM may be gone, or the session stopped, and its tasks with it.
            with suppress(Py4JError, OSError, AttributeError):
                self._wait_for_no_tasks()
            # The next run removes what is left. Without the lock another one may work there now.
            with suppress(Py4JError, OutputError, LostLockError):
                self.delete(place)
            if (above := local_path(self.uri(STAGING))) is not None:
                with suppress(OSError):  # not empty: another run stages there
                    above.rmdir()

    def _wait_for_no_tasks(self) -> None:
        """Cancel running tasks: one could write to the directory that is about to be deleted.

        A cancelled stage has ended at once; its tasks go on until they notice. The scheduler knows
        how many there are. Spark's public status tracker may lag behind, until a heartbeat.
        """
        context: Any = self._spark.sparkContext
        context.cancelAllJobs()
        pool = context._jsc.sc().taskScheduler().rootPool()
        for _ in range(100):
            if not pool.runningTasks() and not context.statusTracker().getActiveStageIds():
                return
            time.sleep(0.1)

    def publish(self, staged: str, place: str) -> None:
        """Move a staged directory into its place, where an unfinished one may be in the way.

        The caller holds the lock of whatever the place belongs to.
        """
        check_stop()
        self.files.delete(place)
        self.files.move(staged, place)

    def meaning(self, error: BaseException) -> RecsysError | None:
        """Return what an error means that is not about what was done: a disk, or Python workers.

        Args:
            error: of Spark or of the operating system.

        Returns:
            The error to show; None where it is another one.
        """
        if is_full(error):
            return full_disk(self._spark, error, local_path(self.root))
        if isinstance(error, Py4JJavaError | PySparkException):
            return worker_error(error, self._spark.sparkContext.pythonExec)
        return None

    @contextmanager
    def _writing(self, place: str) -> Iterator[None]:
        """Turn what Spark says when it cannot write into an OutputError of one line."""
        try:
            yield
        except (Py4JJavaError, PySparkException) as error:
            meaning = over_result_limit(error) or self.meaning(error)
            if meaning is not None:
                raise meaning from error
            if isinstance(error, PythonException):
                raise  # what was to be written failed, not writing
            raise OutputError(
                f"cannot write {place}: {spark_reason(error)}; check root, its space and its "
                "permissions"
            ) from error

    def write_table(self, frame: DataFrame, uri: str, schema: str) -> WrittenTable:
        """Write a Parquet table, read it back, and return what a manifest says of it.

        Raises:
            OutputError: what was written does not have the promised schema.
        """
        promised = [(field.name, field.dataType) for field in parsed(schema)]
        if [(field.name, field.dataType) for field in frame.schema] != promised:
            raise OutputError(f"expected the columns {schema}, found {frame.schema.simpleString()}")
        check_stop()
        with self._writing(uri):
            frame.write.mode("errorifexists").parquet(uri)
        return WrittenTable(rows=self.read_table(uri, schema).count(), files=self.data_files(uri))

    def write_local(self, table: pa.Table, uri: str) -> None:
        """Write a table of the driver's as Parquet files of at most `_PIECE` bytes or so.

        Spark puts data of the driver's into its tasks, and a task must stay below
        `spark.rpc.message.maxSize`. Executors read files instead.
        """
        rows = max(1, len(table) * _PIECE // max(1, table.nbytes))
        for number, start in enumerate(range(0, max(1, len(table)), rows)):
            check_stop()
            buffer = io.BytesIO()
            # Uncompressed: it is read once, and then deleted.
            pq.write_table(table.slice(start, rows), buffer, compression="none")
            self.files.write(f"{uri}/part-{number:05}.parquet", buffer.getbuffer())

    def read_table(self, uri: str, schema: str) -> DataFrame:
        """Read a Parquet table with the schema that it was written with."""
        return self._spark.read.schema(schema).parquet(uri)

    def data_files(self, uri: str) -> list[File]:
        """Return each data file of a table, in order of path."""
        if (local := local_path(uri)) is not None:
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
        files = [File(path=row.path[base:], bytes=row.length, sha256=row.sha256) for row in found]
        return sorted(files, key=lambda file: file.path)


class Scratch:
    """Hands tables of the driver's to executors, as files below a staging directory."""

    def __init__(self, store: Store, place: str) -> None:
        """Remember where to write.

        Args:
            store: the root.
            place: a directory below it, which somebody else deletes.
        """
        self._store, self._place = store, place
        self._numbers = itertools.count()

    def frame(self, table: pa.Table, schema: str) -> DataFrame:
        """Return a table as a DataFrame, whose rows are in no order.

        Args:
            table: columns in the order of the schema.
            schema: DDL, one of `recsys.columns`.
        """
        uri = f"{self._place}/{next(self._numbers)}"
        self._store.write_local(table, uri)
        return self._store.read_table(uri, schema)


def _open(spark: SparkSession, root: str) -> Files:
    """Open a root: through the kernel where it is local, else through Hadoop."""
    default = spark.sparkContext._jsc.hadoopConfiguration().get("fs.defaultFS", "file:///")
    if scheme(root, default=scheme(default)) == "file":
        return open_local(root)
    return HadoopFiles(of_session(spark), root)


def parsed(schema: str) -> StructType:
    """Return a schema of `recsys.columns` as Spark's type.

    Raises:
        OutputError: it is no schema of a table.
    """
    found = StructType.fromDDL(schema)
    if not isinstance(found, StructType):
        raise OutputError(f"expected the schema of a table, found {schema}")
    return found
