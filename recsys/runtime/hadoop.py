"""Hadoop's classes in a JVM: those of a session, or of a JVM without one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from recsys.runtime import session


@dataclass(frozen=True)
class Hadoop:
    """What is needed to work with a file system of Hadoop's.

    Attributes:
        jvm: py4j's view of the JVM.
        gateway: py4j's connection to it.
        configuration: Hadoop's, a Java object: HADOOP_CONF_DIR and Spark's keys `spark.hadoop.*`.
    """

    jvm: Any
    gateway: Any
    configuration: Any


def of_session(spark: SparkSession) -> Hadoop:
    """Return the classes of a session's JVM."""
    context: Any = spark.sparkContext
    return Hadoop(context._jvm, context._gateway, context._jsc.hadoopConfiguration())


def without_session(settings: Mapping[str, object]) -> Hadoop:
    """Start a JVM, unless this process has one, but no session: no cluster is asked for anything.

    Args:
        settings: Spark's keys and values from the configuration.

    Raises:
        ConfigError: the JVM cannot be started so.
    """
    session.start_jvm({**settings, "spark.master": "local[1]"})
    context: Any = SparkContext
    jvm = context._jvm
    utilities = jvm.org.apache.spark.deploy.SparkHadoopUtil.get()
    java_conf: Any = SparkConf()._jconf
    for key, value in settings.items():  # where the JVM ran before
        java_conf.set(key, str(value))
    return Hadoop(jvm, context._gateway, utilities.newConfiguration(java_conf))
