"""`recsys init`: a configuration for files that nobody has described, without Spark."""

import json
import shlex
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from recsys.config.configuration import Config
from recsys.config.writing import render
from recsys.errors import OutputError, RecsysError
from recsys.flows.answer import answer
from recsys.guess import samples
from recsys.guess.draft import Draft
from recsys.guess.names import words
from recsys.guess.proposal import propose
from recsys.guess.roles import Told
from recsys.guess.tables import Table, open_table, together
from recsys.publishing.export.placing import written_beside

_WIDTH = 100
# Names of files that say nothing about what is in them; the folder's name does.
_GENERAL = words(
    "rating ratings data transactions events interactions train training purchases orders log logs "
    "input all users items u reviews"
)
_ORDER = (
    *("root", "input", "row_checks", "deduplication", "filters", "features", "items", "spark"),
)
_KEYS = ("format", "path", "options", "query", "columns", "id_types", "decimal", "timestamp_format")


def main(
    files: Sequence[str],
    output: str | None,
    told: Told,
    *,
    features: bool,
    as_json: bool,
    debug: bool,
) -> int:
    """Look at files, write a configuration, and return the exit status.

    Args:
        files: files, or folders with files.
        output: where to write; None: a name in the working folder.
        told: columns that the user named.
        features: whether tables of features are used, and not only proposed.
        as_json: whether to print JSON.
        debug: whether to show tracebacks.
    """

    def act() -> None:
        if output is not None:
            _refuse_there(Path(output))
        draft, name = look(files, told)
        place = Path(f"{name}.yaml" if output is None else output)
        _write(place, written(draft, place, features=features))
        print(_as_json(draft, place) if as_json else _report(draft, place))

    return answer(act, debug=debug)


def look(files: Sequence[str], told: Told) -> tuple[Draft, str]:
    """Look at files and those beside them.

    Returns:
        What was found, and a name for it.

    Raises:
        InputError: a file cannot be read, or none has ratings.
    """
    given = samples.given(files)
    named = together([open_table(one) for one in given])
    others: list[Table] = []
    for one in samples.beside(given):
        with suppress(RecsysError):  # it may be anything
            others.append(open_table(one, samples.MOST_BYTES_BESIDE))
    draft = propose(named, others, told)
    chosen = draft.values["input"]["path"]
    return draft, _name(Path(chosen if isinstance(chosen, str) else chosen[0]))


def _name(path: Path) -> str:
    """Return a name for a configuration: the file's, or the folder's where that says nothing."""
    name = samples.stem(path)
    if name.lower() in _GENERAL and len(path.parts) > 1:
        name = path.absolute().parent.name or name
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)
    return plain.strip("-") or "recsys"


def written(draft: Draft, place: Path, *, features: bool) -> str:
    """Return the configuration as text.

    Args:
        draft: what was found.
        place: where it will be; its name is that of the root.
        features: whether tables of features are used, and not only proposed.
    """
    values: dict[str, Any] = {"root": f"output/{place.stem}", **draft.values}
    if features and draft.features:
        values["features"] = draft.features
    values = {name: values[name] for name in _ORDER if name in values}
    values["input"] = {name: values["input"][name] for name in _KEYS if name in values["input"]}
    config = Config.model_validate(values)
    about = [
        "Written by `recsys init`, from a look at the files. Relative paths count from the folder",
        "in which you run it. `recsys config` prints every key.",
    ]
    if draft.unsure:
        about += ["", "Not sure:"]
        for one in draft.unsure:
            about += textwrap.wrap(one, _WIDTH - 6, initial_indent="- ", subsequent_indent="  ")
    text = render(config, about, draft.notes)
    return text if features or not draft.features else text + _proposed(draft)


def _proposed(draft: Draft) -> str:
    """Return what describes items and users as a comment."""
    config = Config.model_validate({"features": draft.features})
    lines = render(config, [], {}).strip().splitlines()
    about = (
        "What describes items and users, found beside the ratings. It makes lists of new items and "
        "for new users better, and training several times as long. To use it, remove `# ` from the "
        "lines below, or write this file again with --features."
    )
    wrapped = textwrap.wrap(about, _WIDTH - 2)
    return "\n".join(["", *(f"# {line}" for line in (*wrapped, "", *lines)), ""]).replace(
        "# \n", "#\n"
    )


def _write(place: Path, text: str) -> None:
    """Write a file that is not there yet, whole or not at all.

    Raises:
        OutputError: it is there, or cannot be written.
    """
    _refuse_there(place)
    try:
        with written_beside(place, overwrite=False) as beside:
            beside.write_text(text, encoding="utf-8")
    except OutputError:
        _refuse_there(place)  # by somebody else, meanwhile
        raise


def _refuse_there(place: Path) -> None:
    """Refuse a place where something is.

    Raises:
        OutputError: something is.
    """
    if place.exists():
        raise OutputError(
            f"{place} is there already, and is never overwritten; choose another name by --output"
        )


def _next(place: Path) -> str:
    return f"recsys run --config {shlex.quote(str(place))}"


def _as_json(draft: Draft, place: Path) -> str:
    found = {
        "config": str(place),
        "found": draft.said,
        "unsure": draft.unsure,
        "features": draft.features,
        "next": _next(place),
    }
    return json.dumps(found, indent=2, ensure_ascii=False)


def _report(draft: Draft, place: Path) -> str:
    lines = []
    for what, found in draft.said.items():
        wrapped = textwrap.wrap(found, _WIDTH - 10) or [""]
        lines += [f"{what:10}{wrapped[0]}", *(f"{'':10}{line}" for line in wrapped[1:])]
    if draft.unsure:
        lines += ["not sure:"]
        for one in draft.unsure:
            lines += textwrap.wrap(one, _WIDTH - 6, initial_indent="  - ", subsequent_indent="    ")
    if draft.features:
        groups = [
            f"{group} of {kind}"
            for kind, tables in draft.features.items()
            for table in tables.values()
            for group in table["groups"]
        ]
        wrapped = textwrap.wrap(", ".join(groups), _WIDTH - 10)
        lines += [f"{'features':10}{wrapped[0]}", *(f"{'':10}{line}" for line in wrapped[1:])]
    return "\n".join([*lines, "", f"wrote {place}; next: {_next(place)}"])
