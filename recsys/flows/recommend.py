"""Recommend to someone new from the command line; no Spark, and nothing is written."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pandas as pd

from recsys.config.configuration import Config
from recsys.config.reading import load_config
from recsys.config.stored_ids import check_stored_id
from recsys.errors import ConfigError, one_line
from recsys.flows.answer import answer
from recsys.kernel.worker import POPULAR
from recsys.model.listing import LATEST, MODELS, check_known, latest_model
from recsys.score.local import LocalModel
from recsys.store.files import require_local
from recsys.store.posix import open_local


def model_folder(model: str, root: str) -> Path:
    """Return the directory of a model.

    Args:
        model: its id below the root, `latest`, or a path, which has a `/`.
        root: the configuration's.

    Raises:
        ConfigError: it is neither, or not on this machine.
        ModelError: there is none of this id.
    """
    if "/" in model:
        return require_local(model, "--model")
    expected = f"the id of a model under {root}/models, or a path to one"
    check_stored_id(model, key="--model", expected=expected)
    files = open_local(require_local(root, "root"))
    if model == LATEST:
        model = latest_model(files)
    check_known(files, model)
    return files.path(files.uri(MODELS, model))


def recommend(
    config: Config, model: str, liked: str | None, features: str | None, k: int | None
) -> tuple[pd.DataFrame, list[str]]:
    """Return the list, as `LocalModel` does, and what is to be said about it.

    Args:
        config: has the root, the titles and the length of a list.
        model: as `model_folder` takes it.
        liked: item ids, separated by commas; None without any.
        features: `group=value`, separated by commas; None without any.
        k: length of the list; None for the configuration's.

    Raises:
        ConfigError: neither is given, or one cannot be used.
    """
    if liked is None and features is None:
        raise ConfigError("--liked and --features: found neither, expected one of them, or both")
    given = {} if features is None else _split(features)
    folder = model_folder(model, config.root)
    local = LocalModel.load(folder, config.items.titles)
    length = k or config.scoring.k
    ids = [] if liked is None else [item.strip() for item in liked.split(",")]
    names = local.feature_names(given) if given else []
    unknown = [*local.unknown(ids), *(local.unknown_features(names) if names else [])]
    known = dict.fromkeys(names, 1.0) if names else None
    found = local.recommend(ids, length, features=known)
    what = " and ".join(
        text for text, option in (("liked items", liked), ("features", features)) if option
    )
    notes = [f"the latest model is {folder.name}"] if model == LATEST else []
    if unknown:
        notes.append(f"not in the model: {', '.join(map(str, unknown))}")
    if (found["source"] == POPULAR).any():
        notes.append(f"none of the {what} is in the model: these are its popular items")
    if found.empty:
        notes.append("no item is left to recommend")
    if config.items.allow or config.items.deny:
        notes.append("items.allow and items.deny need Spark and do not count here")
    return found, notes


def _split(features: str) -> dict[str, str]:
    """Split `group=value,group=value`; a comma that no group follows is a part of a value.

    Raises:
        ConfigError: one has no group, or a group is there twice.
    """
    given: dict[str, str] = {}
    for one in re.split(r",(?=\s*[A-Za-z_][A-Za-z0-9_-]*=)", features):
        group, equals, value = one.partition("=")
        if not equals or group.strip() in given:
            raise ConfigError(
                f"--features: found {features!r}, expected group=value, separated by commas, each "
                "group once"
            )
        given[group.strip()] = value
    return given


def aligned(found: pd.DataFrame) -> list[str]:
    """Return a list as lines of text: rank, item id, score and title, under a header."""
    popular = (found["source"] == POPULAR).all()
    cells = [("rank", "item_id", "users" if popular else "score", "title")]
    for row in found.itertuples(index=False):
        score = f"{row.score:.0f}" if popular else f"{row.score:.4f}"
        title = " ".join(str(row.title or "").split())
        cells.append((str(row.rank), str(row.item_id), score, title))
    if not any(title for *_, title in cells[1:]):
        cells[0] = (*cells[0][:3], "")
    widths = [max(len(row[n]) for row in cells) for n in range(3)]
    return [
        f"{rank:>{widths[0]}}  {item:{widths[1]}}  {score:>{widths[2]}}  {title}".rstrip()
        for rank, item, score, title in cells
    ]


def main(
    model: str,
    liked: str | None,
    features: str | None,
    k: int | None,
    config: str | None,
    overrides: Sequence[str],
    *,
    as_json: bool = False,
) -> int:
    """Print a list and return the exit status."""

    def act() -> None:
        found, notes = recommend(load_config(config, overrides), model, liked, features, k)
        for note in notes:
            print(f"recsys: note: {one_line(note)}", file=sys.stderr)
        if as_json:
            plain = json.loads(found.to_json(orient="records", double_precision=9))
            click.echo(json.dumps(plain, indent=2, ensure_ascii=False))
            return
        for line in aligned(found):
            click.echo(line)

    return answer(act)
