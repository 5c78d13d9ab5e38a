"""Secrets in the configuration reach Spark and the catalogue, and nothing that people read."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys.config.reading import load_config
from recsys.config.redaction import redact
from recsys.errors import ConfigError
from recsys.flows.execution import _one_line
from tests.conftest import ROOT, csv_input, small_ratings

SECRET = "hunter2"  # noqa: S105 - it is none
SPARK = {
    "spark.hadoop.fs.s3a.secret.key": SECRET,
    "spark.hadoop.fs.azure.account.key.box": SECRET,
    "spark.ssl.keyPassword": SECRET,
    "spark.executorEnv.API_TOKEN": SECRET,
    "spark.executor.extraJavaOptions": f"-Dstore.password={SECRET}",
}
PROPERTIES = {
    "s3.secret-access-key": SECRET,
    "s3.session-token": SECRET,
    "credential": f"me:{SECRET}",
    "adls.connection-string": f"AccountName=me;AccountKey={SECRET};EndpointSuffix=x",
}
POSTGRES = f"postgresql+psycopg2://me:{SECRET}@127.0.0.1:1/db"


def test_no_file_and_no_log_line_of_a_run_has_a_secret(
    run: Callable[..., dict[str, Any]],
    ratings_csv: Callable[..., str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    for n, publishing in enumerate(
        (
            {"iceberg": {"properties": {**PROPERTIES, "uri": POSTGRES}}},
            {"format": "iceberg", "iceberg": {"properties": PROPERTIES}},
        )
    ):
        source = csv_input(ratings_csv(small_ratings()))
        source["options"] = {**source["options"], "apiKey": SECRET}
        root = tmp_path / f"out{n}"
        run(root=root, input=source, publishing=publishing, spark=SPARK)
        written = [path for path in root.rglob("*") if path.is_file()]
        assert {path.name for path in written} >= {"manifest.json"}
        assert [p for p in written if SECRET.encode() in p.read_bytes()] == []
        manifests = [p.read_text() for p in written if p.name == "manifest.json"]
        assert any("s3.secret-access-key" in text for text in manifests)
    told = capsys.readouterr()
    assert SECRET not in caplog.text + told.out + told.err


@pytest.mark.parametrize("debug", [False, True])
def test_a_catalogue_that_does_not_answer_is_reported_without_its_password(
    tmp_path: Path, debug: bool
) -> None:
    (tmp_path / "out").mkdir()
    settings = [
        "root=out",
        "publishing.format=iceberg",
        f"publishing.iceberg.properties.uri={POSTGRES}",
    ]
    settings += [
        f"publishing.iceberg.properties.{key}={value}" for key, value in PROPERTIES.items()
    ]
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "recsys.cli", "runs"),
            *(part for setting in settings for part in ("--set", setting)),
            *(["--debug"] if debug else []),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode not in (0, 1), ran.stderr
    assert SECRET not in ran.stdout + ran.stderr
    assert ("Traceback" in ran.stderr) == debug
    if not debug:
        assert ran.stderr.startswith("recsys: error: ")
        assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "override",
    [
        f"publishing.iceberg.properties={{uri: ['{POSTGRES}']}}",
        f"publishing.iceberg.properties={POSTGRES}",
        f"publishing.iceberg.properties={{s3.secret-access-key: [{SECRET}]}}",
        f"publishing.iceberg.properties=[{{s3.secret-access-key: {SECRET}}}]",
        f"publishing.iceberg.catalog={POSTGRES}",
        f"spark=['-Dstore.password={SECRET}']",
        f"spark={{spark.ssl.keyPassword: [{SECRET}]}}",
        f"root='s3a://me:{SECRET}@bucket/*'",
        f"input.path=[['s3a://me:{SECRET}@bucket/x']]",
        f"training.epochs='https://h/x?sig={SECRET}'",
        f"input={POSTGRES}",
    ],
)
def test_a_wrong_value_is_shown_without_the_secret_in_it(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert SECRET not in str(caught.value)


def test_an_unexpected_error_is_shown_without_the_secret_in_it() -> None:
    told = _one_line(RuntimeError(f"no answer from https://me:{SECRET}@host/"))
    assert told == "RuntimeError: no answer from https://me@host/"


@pytest.mark.parametrize("secret", ["hunter2", "hun@ter2", "hun/ter2", "hun:ter2"])
def test_a_password_in_a_uri_is_cut_out_whatever_it_is_made_of(secret: str) -> None:
    assert redact(f"postgresql://me:{secret}@host:5432/db") == "postgresql://me@host:5432/db"


def test_keys_in_connection_strings_and_queries_are_cut_out() -> None:
    assert redact("AccountName=me;AccountKey=hunter2==;EndpointSuffix=x") == (
        "AccountName=me;AccountKey=(redacted);EndpointSuffix=x"
    )
    assert redact("jdbc:postgresql://h/db?user=me&password=hunter2&ssl=true") == (
        "jdbc:postgresql://h/db?user=me&password=(redacted)&ssl=true"
    )


@pytest.mark.parametrize(
    "uri",
    [
        "hdfs://name:8020/data@2026/x",
        "https://host:80/@scope/x",
        "abfss://box@account/x",
        "http://host/a:b@c",
        "nothing@all",
    ],
)
def test_what_is_no_password_stays(uri: str) -> None:
    assert redact(uri) == uri
