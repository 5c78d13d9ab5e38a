"""The Spark session, and what executors need of this package.

`spark-submit`'s settings win: `SparkSession.builder.config` would override them, so only keys that
SparkConf does not have yet are set.
"""

import atexit
import logging
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.sql import SparkSession

import recsys
from recsys.config.redaction import redact
from recsys.errors import ConfigError
from recsys.runtime import steps
from recsys.runtime.disks import check_local_dirs
from recsys.runtime.jvm_shutdown import watch_jvm
from recsys.runtime.launch import check_java, check_settings, not_started
from recsys.runtime.signals import check_stop
from recsys.runtime.spark_errors import spark_reason
from recsys.runtime.watcher import SessionWatcher

log = logging.getLogger(__name__)

# Text timestamps without a zone, dates and the date window all mean UTC.
DEFAULTS = {
    "spark.app.name": "recsys",
    "spark.master": "local[*]",
    "spark.sql.session.timeZone": "UTC",
    # Spark's own default (INT96) is a type that Iceberg does not know, and has no statistics.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.ui.showConsoleProgress": "false",
    # After each row, Spark adds up the whole Arrow batch so far to see whether it is too large:
    # with lists in the rows most of the time of a stage. Batches are limited by their rows alone.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(2**31 - 1),
    "spark.sql.execution.arrow.maxRecordsPerBatch": "2048",
}

# How sources are read, whatever the cluster's defaults say: values of folders such as item=007 stay
# text, nanoseconds in Parquet (which pandas writes) come as numbers and are converted, and every
# encoding that Java knows can be read.
ALWAYS = {
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    "spark.sql.legacy.javaCharsets": "true",
}

# A JVM that already runs cannot take these any more.
_LAUNCH_ONLY = (
    "spark.driver.memory",
    "spark.driver.cores",
    "spark.driver.extra",
    "spark.driver.defaultJavaOptions",
    "spark.submit.",
)


def under_spark_submit() -> bool:
    """Whether `spark-submit` started this process (it leaves the gateway's port)."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def start(settings: Mapping[str, object], *, quiet: bool = True) -> SparkSession:
    """Start the session, or take up the one that spark-submit prepared.

    In the main thread, PySpark answers Ctrl-C by an exception in the middle of whatever it does; in
    another thread it leaves signals alone.

    Args:
        settings: Spark's keys and values from the configuration; they win over this module's
            defaults and lose against spark-submit's.
        quiet: without spark-submit, silence the JVM's log, whose stack traces would bury the one
            line that a user is to see.

    Raises:
        ConfigError: Spark or its driver's JVM cannot be started so.
        OutputError: the disk is full to which Spark would write.
        Stopped: a signal came.
    """
    check_settings(settings)
    wanted = {**DEFAULTS, **{key: _text(value) for key, value in settings.items()}}
    if under_spark_submit():
        SparkContext._ensure_initialized()  # without a JVM, SparkConf knows nothing
    else:
        _launch(wanted, quiet=quiet)
    watch_jvm(SparkContext._jvm)
    check_stop()
    present = SparkConf()
    missing = {key: value for key, value in wanted.items() if not present.contains(key)}
    if "spark.pyspark.python" in settings and not (
        under_spark_submit() and present.contains("spark.pyspark.python")
    ):
        # PySpark's driver reads the variable; only spark-submit makes it from the setting.
        os.environ["PYSPARK_PYTHON"] = wanted["spark.pyspark.python"]
    for key in [key for key in missing if key.startswith(_LAUNCH_ONLY)]:
        log.warning(
            "%s from the configuration has no effect: the driver's JVM already runs; "
            "give it to spark-submit",
            key,
        )
        del missing[key]
    builder = SparkSession.builder
    for key, value in missing.items():
        builder = builder.config(key, value)
    try:
        spark = builder.getOrCreate()
    except (Py4JJavaError, PySparkException) as error:
        raise ConfigError(
            f"Spark does not start: {_why(error, wanted)}; check the section spark, and "
            "spark-defaults.conf where there is one"
        ) from error
    for key, value in ALWAYS.items():
        spark.conf.set(key, value)
    _ship_kernel(spark)
    _pin_blas(spark)
    steps.watch(SessionWatcher(spark.sparkContext))
    return spark


def start_jvm(settings: Mapping[str, object]) -> None:
    """Start the driver's JVM without a session, unless this process has one.

    Args:
        settings: Spark's keys and values.

    Raises:
        ConfigError: it cannot be started so.
    """
    check_settings(settings)
    if not under_spark_submit():
        _launch({**DEFAULTS, **{key: _text(value) for key, value in settings.items()}}, quiet=True)
    SparkContext._ensure_initialized()


def _why(error: Exception, wanted: Mapping[str, str]) -> str:
    if "stopped SparkContext" in str(error):  # which has given up meanwhile
        return f"the cluster manager {wanted['spark.master']} did not answer, or refused"
    return spark_reason(error)


def _launch(wanted: dict[str, str], *, quiet: bool) -> None:
    """Start the driver's JVM, unless this process has one, and add to the settings what it needs.

    What can be known before is refused before: a JVM that does not start says why in its own words.
    """
    if wanted["spark.master"].startswith("local"):
        # Nothing outside this machine takes part, and its own name may not even resolve.
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        check_local_dirs(wanted)
    if SparkContext._gateway is None:
        check_java(wanted)
    if quiet and "spark.log.level" not in wanted:
        silent = (Path(__file__).with_name("quiet-log4j2.properties")).as_uri()
        wanted.setdefault("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={silent}")
    # Without a JVM the settings become arguments of its launch, driver memory included.
    launch = SparkConf(loadDefaults=False)
    for key, value in wanted.items():
        launch.set(key, value)
    try:
        SparkContext._ensure_initialized(conf=launch)
    except PySparkRuntimeError as error:
        check_stop()  # a signal to the process group ends it as well
        raise not_started(wanted) from error


def cancel_jobs() -> None:
    """Cancel what runs, so that calls that wait for it come back with an error.

    For another thread than the one that waits: py4j gives each thread a connection of its own.
    """
    context = SparkContext._active_spark_context
    # A context that is being made has none yet.
    jvm_context = getattr(context, "_jsc", None)
    if jvm_context is not None:
        with suppress(Py4JError, OSError):  # it is being stopped
            jvm_context.cancelAllJobs()


def driver_cores(spark: SparkSession) -> int:
    """Return how many cores Spark gives the driver: local[N], spark.driver.cores, or no limit."""
    context = spark.sparkContext
    if (context.master or "").startswith("local["):
        return context.defaultParallelism
    told = context.getConf().get("spark.driver.cores")
    return int(told) if told else sys.maxsize


def describe(spark: SparkSession, settings: Mapping[str, object]) -> dict[str, Any]:
    """Return what the session really runs with, for a manifest; secrets redacted.

    Args:
        spark: the session.
        settings: the configuration's, to tell what became of them.
    """
    context = spark.sparkContext
    jvm: Any = context._jvm
    effective = {key: spark.conf.get(key, None) for key in sorted({**DEFAULTS, **settings})}
    described: dict[str, Any] = redact(
        {
            "application_id": context.applicationId,
            "master": context.master,
            "driver_heap_bytes": int(jvm.java.lang.Runtime.getRuntime().maxMemory()),
            "default_parallelism": context.defaultParallelism,
            "settings": effective,
        }
    )
    return described


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pin_blas(spark: SparkSession) -> None:
    """Give the BLAS of a Python worker as many threads as its task has cores.

    Spark itself says so to OpenMP alone, and an OPENBLAS_NUM_THREADS of the executor's machine
    would win over that: two tasks would then fight for the same cores. What the configuration sets
    as spark.executorEnv stays.
    """
    cores = spark.sparkContext.getConf().get("spark.task.cpus", "1")
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        spark.sparkContext.environment.setdefault(name, cores)


def _ship_kernel(spark: SparkSession) -> None:
    """Send recsys.kernel to the executors, so that they need NumPy, pandas and pyarrow only.

    What they may have installed under the same name is shadowed: driver and executors always run
    the same code.
    """
    package = Path(recsys.__file__).parent
    # Executors fetch it with their first task, so it stays as long as this process.
    folder = tempfile.mkdtemp(prefix="recsys-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    archive = Path(folder) / "recsys_kernel.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for source in [package / "__init__.py", *sorted((package / "kernel").glob("*.py"))]:
            zipped.write(source, Path("recsys") / source.relative_to(package))
    spark.sparkContext.addPyFile(str(archive))
