"""For notebooks: a model of ratings in a DataFrame, by the same job that reads files."""

import contextlib
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import SparkSession

from recsys.config.reading import load_config
from recsys.config.sections import Titles
from recsys.errors import ConfigError, InputError
from recsys.flows import commands
from recsys.flows.execution import check_configuration, run_recorded
from recsys.runtime import session
from recsys.runtime.run import new_run
from recsys.score.local import LocalModel
from recsys.store.files import local_path, require_local

_COLUMNS = ("user", "item", "rating", "timestamp")
_TITLES = ["item_id", "title"]


def fit(
    ratings: pd.DataFrame,
    *,
    root: str | Path,
    user: str = "user_id",
    item: str = "item_id",
    rating: str | None = None,
    timestamp: str | None = None,
    titles: pd.DataFrame | None = None,
    settings: Mapping[str, Any] | None = None,
) -> LocalModel:
    """Train a model of ratings in memory, and return it.

    This is `recsys train` on a copy of the ratings: rows are checked and deduplicated, and the
    interactions, the rejects, the model and the record of the run are below the root. It takes up
    the Spark session that is active, or starts one on this machine, which stays for the next call.

    Args:
        ratings: one row each.
        root: a directory on this machine, made if it is not there.
        user: the column of the users' ids: numbers or text.
        item: the column of the items' ids: likewise.
        rating: the column of ratings; None: each row counts as 1.
        timestamp: the column of times; None: set `deduplication.policy` to one that needs none.
        titles: `item_id` and `title` of items, for the model that is returned.
        settings: sections of the configuration, such as `{"training": {"epochs": 5}}`.

    Raises:
        ConfigError: a column is missing, or a setting is wrong.
        InputError: the frame cannot be written as Parquet.
        RecsysError: the training fails, as the command does.
    """
    given = dict(zip(_COLUMNS, (user, item, rating, timestamp), strict=True))
    columns = {role: name for role, name in given.items() if name is not None}
    _check_columns(ratings, list(columns.values()), "ratings")
    if titles is not None:
        _check_columns(titles, _TITLES, "titles")
    place = require_local(root, "root").absolute()
    with tempfile.TemporaryDirectory(prefix="recsys-frames-") as folder:
        path = _written(
            ratings[list(columns.values())], Path(folder) / "ratings.parquet", "ratings"
        )
        sections = dict(settings or {})
        source = {"format": "parquet", "path": path, "columns": columns}
        sections |= {"root": str(place), "input": {**sections.get("input", {}), **source}}
        described = Path(folder) / "config.yaml"
        described.write_text(json.dumps(sections), encoding="utf-8")  # JSON is YAML
        config = load_config(str(described))
        command = commands.train_command(None)
        check_configuration(command, config)
        spark = SparkSession.getActiveSession() or session.start(config.spark)
        with contextlib.redirect_stdout(io.StringIO()):  # the command's table of results
            record = run_recorded(command, spark, config, new_run())
        model = local_path(record.outputs["model"].uri)
        assert model is not None  # noqa: S101 - the root is local
        if titles is None:
            return LocalModel.load(model)
        names = _written(titles[_TITLES], Path(folder) / "titles.parquet", "titles")
        return LocalModel.load(model, Titles(format="parquet", path=names))


def _check_columns(frame: pd.DataFrame, wanted: list[str], what: str) -> None:
    if missing := [name for name in wanted if name not in frame.columns]:
        found = ", ".join(map(str, frame.columns))[:300]
        raise ConfigError(f"{what}: found the columns {found}, expected {', '.join(missing)} too")


def _written(frame: pd.DataFrame, path: Path, what: str) -> str:
    try:
        frame.to_parquet(path, index=False)
    except (ValueError, TypeError, OSError) as error:  # pyarrow's errors are of these
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{what}: cannot be written as Parquet: {said}") from error
    return str(path)
