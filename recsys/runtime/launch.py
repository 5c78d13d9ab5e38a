"""What can be refused before Spark's driver, a JVM, is started: sizes, Java and Spark itself.

A JVM that does not start says why on its own standard error, in its own words, and PySpark only
that it is gone. So Java is asked first, which takes a twentieth of a second.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyspark

from recsys.errors import ConfigError

_OLDEST_JAVA = 17
# Spark starts its driver with it; minimal builds of Java leave it out.
_MODULE = "jdk.incubator.vector"

_MASTERS = ("local", "spark://", "k8s://")
_UNITS = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
# Spark refuses to work with less: one and a half times what it keeps for itself.
_LEAST_HEAP = 450 * 2**20
_HEAPS = ("spark.driver.memory", "spark.executor.memory")
# A number alone would be bytes in one of them, KiB or MiB in others.
_SIZES = (
    *_HEAPS,
    "spark.driver.maxResultSize",
    "spark.driver.memoryOverhead",
    "spark.executor.memoryOverhead",
    "spark.executor.pyspark.memory",
    "spark.kryoserializer.buffer",
    "spark.kryoserializer.buffer.max",
    "spark.memory.offHeap.size",
    "spark.python.worker.memory",
    "spark.yarn.am.memory",
    "spark.yarn.am.memoryOverhead",
)


def check_settings(settings: Mapping[str, object]) -> None:
    """Refuse a master that is none, and sizes that Spark or Java would take for others or refuse.

    Args:
        settings: Spark's keys and values from the configuration.

    Raises:
        ConfigError: with everything that is wrong.
    """
    master = str(settings.get("spark.master", "local"))
    found = []
    if master != "yarn" and not master.startswith(_MASTERS):
        found.append(
            f"spark.master: found {master[:60]!r}, expected local[*], local[N], yarn, spark://... "
            "or k8s://..."
        )
    found += [line for key in _SIZES if key in settings for line in _wrong(key, settings[key])]
    if found:
        raise ConfigError("; ".join(found))


def _wrong(key: str, value: object) -> Iterator[str]:
    text = str(value)
    example = "4g or 2048m" if key in _HEAPS else "512m or 1g"
    expected = f"a whole number with a unit, such as {example}"
    # Java itself reads the driver's: a letter and nothing else.
    units = "[kmgt]" if key == "spark.driver.memory" else "[kmgtp]b?|b"
    size = re.fullmatch(rf"([0-9]+)({units})", text, re.IGNORECASE)
    if size is None:
        if text == "0" and key not in _HEAPS:  # none, or no limit
            return
        meaning = " (a number alone counts bytes)" if text.isdigit() and key == _HEAPS[0] else ""
        yield f"{key}: found {text[:60]!r}{meaning}, expected {expected}"
    elif key in _HEAPS and int(size[1]) * 1024 ** _UNITS[size[2][0].lower()] < _LEAST_HEAP:
        yield f"{key}: found {text!r}, expected at least 450m: Spark does not start with less"


def check_java(settings: Mapping[str, object]) -> None:
    """Refuse a Spark or a Java that cannot be the driver, or a heap that Java cannot have.

    Args:
        settings: Spark's keys and values, with what the JVM is started with.

    Raises:
        ConfigError: it says what to change.
    """
    _check_spark_home()
    java, origin = _java()
    heap = str(settings.get("spark.driver.memory", "1g"))
    ran = _run([java, f"-Xmx{heap}", f"--add-modules={_MODULE}", "-version"])
    if isinstance(ran, str):
        raise ConfigError(f"{origin}: {java} cannot be run: {ran}; {_remedy()}")
    said = f"{ran.stderr}\n{ran.stdout}"
    version = _version(said)
    if version is None or (version < _OLDEST_JAVA):  # the old ones do not know all arguments
        plain = _run([java, "-version"])
        version = None if isinstance(plain, str) else _version(plain.stderr)
    if version is not None and version < _OLDEST_JAVA:
        raise ConfigError(
            f"{origin}: {java} is Java {version}, expected {_OLDEST_JAVA} or newer; {_remedy()}"
        )
    if ran.returncode and _MODULE in said:
        raise ConfigError(
            f"{origin}: {java} has no module {_MODULE}, which Spark needs; install a Java that is "
            "not a minimal build, such as Debian's openjdk-17-jre-headless"
        )
    if ran.returncode and "heap" in said:
        raise ConfigError(
            f"spark.driver.memory: Java cannot start with {heap}: {_reason(said)}; expected "
            "a size that this machine has, such as 4g"
        )
    if ran.returncode or version is None:
        raise ConfigError(f"{origin}: {java} is no Java that works: {_reason(said)}; {_remedy()}")


def not_started(settings: Mapping[str, object]) -> ConfigError:
    """Return what to say when the driver's JVM has ended before it answered."""
    options = str(settings.get("spark.driver.extraJavaOptions", "")).split()
    ran = _run([_java()[0], *options, "-version"]) if options else ""
    if not isinstance(ran, str) and ran.returncode:
        return ConfigError(
            "spark.driver.extraJavaOptions: Java cannot start with "
            f"{' '.join(options)[:200]!r}: {_reason(ran.stderr)}; remove what it does not know"
        )
    return ConfigError(
        "Spark's driver ended before it answered; what it said is above: check the section spark, "
        "and PYSPARK_SUBMIT_ARGS, SPARK_CONF_DIR and JAVA_HOME where they are set"
    )


def _check_spark_home() -> None:
    home = os.environ.get("SPARK_HOME")
    if home is None:  # PySpark has one in itself
        return
    advice = "unset SPARK_HOME (PySpark brings its own Spark), or set it to a whole Spark"
    if not os.access(Path(home) / "bin" / "spark-submit", os.X_OK):
        raise ConfigError(
            f"SPARK_HOME: found {home!r}, which has no bin/spark-submit that can be run; {advice}"
        )
    for core in Path(home, "jars").glob("spark-core_*.jar"):
        version = core.stem.partition("-core_")[2].partition("-")[2]
        if version.split(".")[:2] != pyspark.__version__.split(".")[:2]:
            raise ConfigError(
                f"SPARK_HOME: found Spark {version} in {home!r}, and PySpark is "
                f"{pyspark.__version__}; {advice} {pyspark.__version__}"
            )


def _java() -> tuple[str, str]:
    """Return the Java that Spark's scripts take, and where it comes from."""
    if home := os.environ.get("JAVA_HOME"):
        return f"{home}/bin/java", f"JAVA_HOME is {home!r}"
    return shutil.which("java") or "java", "JAVA_HOME is not set"


def _remedy() -> str:
    return f"install Java {_OLDEST_JAVA} or newer, and set JAVA_HOME to its directory"


def _run(command: list[str]) -> "subprocess.CompletedProcess[str] | str":
    """Return what became of a command, or why it could not be run."""
    try:
        return subprocess.run(  # noqa: S603 - the Java that Spark would run as well
            command, capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except OSError as error:
        return error.strerror or type(error).__name__
    except subprocess.TimeoutExpired:
        return "no answer within a minute"


def _version(said: str) -> int | None:
    """Return the version that `java -version` says: 8 for 1.8.0, 17 for 17.0.2."""
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else None


def _reason(said: str) -> str:
    """Return what Java says, without what it says of every fault."""
    lines = [line.strip() for line in said.splitlines()]
    of_every_fault = ("WARNING: Using incubator", "Error occurred during initialization", "Error: ")
    told = (line[:200] for line in lines if line and not line.startswith(of_every_fault))
    return next(told, "it does not say why")
