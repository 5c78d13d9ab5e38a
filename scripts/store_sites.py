"""Where trials publish: a local folder, HDFS, or S3 with a catalog on PostgreSQL."""

import importlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from cluster_runs import ROOT, UnavailableError, cluster

from recsys.config.sections import Iceberg, Publishing
from recsys.publishing.index import open_index
from recsys.publishing.read import Published, read_recommendations
from recsys.publishing.versions import Unit
from recsys.runtime import session
from recsys.store.files import Files
from recsys.store.opening import open_root

SHORT_LIFE = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # of JVMs that only few rows pass
KINDS = ("local", "hdfs", "s3")

_opened: dict[str, Files] = {}


@dataclass(frozen=True)
class Site:
    """A root, how it is reached, and how it is published to; each process opens it for itself.

    Attributes:
        root: a path or a URI.
        publishing: the configuration's section.
        spark: keys and values that reach the store; none for a local root.
        environment: variables that lead to it, which this process has as well.
    """

    root: str
    publishing: Publishing
    spark: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def form(self) -> str:
        """Of table."""
        return self.publishing.format

    @property
    def local(self) -> bool:
        """Whether the root is a directory of this machine."""
        return not self.spark

    def files(self) -> Files:
        """Open the root, once in each process: another client of a store has its own threads."""
        if self.root not in _opened:
            _opened[self.root] = open_root(self.root, settings=self.spark)
        return _opened[self.root]

    def index(self) -> Any:
        """Open its index."""
        return open_index(self.files(), self.publishing, lambda: None)

    def read(self, unit: Unit) -> Published:
        """Read what readers in Python see, as pyarrow Tables; with Spark where that is needed."""
        about: dict[str, Any] = {"cohort": unit.cohort, "run_date": unit.run_date}
        about["publishing"] = self.publishing
        if self.local:
            return read_recommendations(self.root, **about)
        small: dict[str, Any] = {"spark.master": "local[1]", "spark.ui.enabled": False}
        small |= {"spark.sql.shuffle.partitions": 1, "spark.sql.codegen.wholeStage": False}
        spark = session.start({**self.spark, **small})
        found = read_recommendations(self.root, spark=spark, **about)
        tables: dict[str, Any] = {
            name: frame.toArrow()
            for name in ("recommendations", "status", "titles")
            if (frame := getattr(found, name)) is not None
        }
        return Published(
            run_id=found.run_id,
            run_date=found.run_date,
            cohort=found.cohort,
            manifest=found.manifest,
            **tables,
        )


@dataclass(frozen=True)
class Store:
    """Something on which roots are made.

    Attributes:
        kind: one of KINDS.
        base: the directory or URI below which they are.
        spark: keys and values that reach it.
        environment: variables that lead to it.
        properties: of the Iceberg catalog; none: SQLite below each root.
    """

    kind: str
    base: str
    spark: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms of table that it can have."""
        return {"hdfs": ("parquet",), "s3": ("iceberg",)}.get(self.kind, ("parquet", "iceberg"))

    @property
    def told(self) -> str:
        """What people are told of it beside a form of table."""
        return "" if self.kind == "local" else f" on {self.kind}"

    @property
    def patience(self) -> float:
        """Seconds to wait for what is done without Spark's jobs."""
        return 120 if self.kind == "local" else 600

    def site(self, name: str, form: str, keep: int = 3) -> Site:
        """Name a root; no two have the same tables, whatever their catalog.

        Args:
            name: of the root.
            form: `parquet` or `iceberg`.
            keep: how many versions.
        """
        namespace = re.sub(r"\W", "_", name)
        iceberg = Iceberg(catalog=namespace, namespace=namespace, properties=dict(self.properties))
        publishing = Publishing.model_validate(
            {"format": form, "keep_versions": keep, "iceberg": iceberg}
        )
        return Site(f"{self.base}/{name}", publishing, self.spark, self.environment)


@contextmanager
def store(kind: str, folder: Path) -> Iterator[Store]:
    """Start what a kind of store needs, and end it afterwards.

    Args:
        kind: one of KINDS.
        folder: to work in.

    Raises:
        UnavailableError: it cannot be had here.
    """
    os.environ.setdefault("JAVA_TOOL_OPTIONS", SHORT_LIFE)
    if kind == "local":
        yield Store(kind, str(folder))
        return
    small = {"spark.driver.memory": "512m"}
    with cluster(kind, folder / kind) as at:
        if kind == "hdfs":
            names = ("HADOOP_CONF_DIR", "HADOOP_USER_NAME")
            environment = {name: at.environment[name] for name in names}
            os.environ.update(environment)  # for this process and those that it starts
            yield Store(kind, f"{at.environment['HDFS']}/trial", small, environment)
            return
        with postgres() as uri:
            if isinstance(uri, UnavailableError):
                raise uri
            yield _s3(at.environment, small, uri)


def _s3(found: Mapping[str, str], small: Mapping[str, str], uri: str) -> Store:
    """Return an S3 server as a store with a catalog."""
    region = "us-east-1"  # each needs one, and the server none
    spark = {
        **small,
        "spark.jars": found["S3A_JARS"],
        "spark.hadoop.fs.s3a.endpoint": found["S3"],
        "spark.hadoop.fs.s3a.endpoint.region": region,
        "spark.hadoop.fs.s3a.access.key": found["S3_KEY"],
        "spark.hadoop.fs.s3a.secret.key": found["S3_SECRET"],
        "spark.hadoop.fs.s3a.path.style.access": "true",
    }
    properties = {
        "uri": uri,
        "s3.endpoint": found["S3"],
        "s3.region": region,
        "s3.access-key-id": found["S3_KEY"],
        "s3.secret-access-key": found["S3_SECRET"],
    }
    return Store("s3", f"s3a://{found['S3_BUCKET']}/trial", spark, properties=properties)


@contextmanager
def postgres() -> Iterator[str | UnavailableError]:
    """Give the URI of a PostgreSQL server of its own, or why it cannot be started."""
    script = str(ROOT / "scripts" / "postgres.sh")
    # Not below the trial's own directory: the server's user may not be able to reach it.
    folder = tempfile.mkdtemp(prefix="recsys-postgres-")
    started = subprocess.run(
        ["bash", script, "start", folder],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if started.returncode:
        yield UnavailableError(f"PostgreSQL does not start: {started.stderr.strip()[-300:]}")
        return
    try:
        yield started.stdout.strip()
    finally:
        subprocess.run(["bash", script, "stop", folder], check=True)  # noqa: S607


def duckdb_on(site: Site) -> Any:
    """Open DuckDB with its extensions from packages: nothing is downloaded.

    Raises:
        UnavailableError: it has no extension that reaches the root's store.
    """
    import duckdb

    places = [Path(place) for place in importlib.import_module("duckdb_ext").__path__]
    at = next(place for place in places if any(place.rglob("iceberg.duckdb_extension")))
    connection = duckdb.connect(
        config={
            "extension_directory": str(at / "extensions"),
            "autoinstall_known_extensions": "false",
        }
    )
    connection.execute("LOAD avro; LOAD iceberg; SET TimeZone = 'UTC'")
    if site.local:
        return connection
    found = [file for place in places for file in place.rglob("httpfs.duckdb_extension")]
    if not found:
        raise UnavailableError("DuckDB's extension httpfs is not installed (duckdb-ext-httpfs)")
    connection.execute(f"LOAD '{found[0]}'")
    given = site.publishing.iceberg.properties
    settings = {
        "s3_endpoint": urlsplit(str(given["s3.endpoint"])).netloc,
        "s3_region": given["s3.region"],
        "s3_access_key_id": given["s3.access-key-id"],
        "s3_secret_access_key": given["s3.secret-access-key"],
        "s3_url_style": "path",
        "s3_use_ssl": "false",
    }
    for name, value in settings.items():
        connection.execute(f"SET {name} = '{value}'")
    return connection


def whole_table(index: Any, connection: Any, name: str) -> pa.Table:
    """Read a table as DuckDB does, which needs no catalog but the place of its metadata."""
    at = index.metadata_location(name)
    found: pa.Table = connection.execute("SELECT * FROM iceberg_scan(?)", [at]).fetch_arrow_table()
    return found


def below(files: Files, uri: str) -> Iterator[str]:
    """Yield all files and directories below a directory."""
    for name in files.names(uri):
        there = f"{uri}/{name}"
        yield there
        if files.is_directory(there):
            yield from below(files, there)
