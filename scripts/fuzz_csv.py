"""CSV as pandas, Spark, R and spreadsheets write it: read as it was meant, rejected or refused.

usage: python scripts/fuzz_csv.py [--files 2000] [--seed N] [--json FILE]

Files are written by pandas, by Spark, and in the ways of R and of spreadsheets, with ids that have
quotes, separators, backslashes, line ends and letters of many scripts, in several encodings,
compressions and line ends, with and without a header. They are read with the options that the
documentation names for them, and some of them with the defaults. What must hold:

- with the right options every pair is there, and nothing else;
- with other options, each row that is read is one that was written, the others are rejected, or
  the files are refused;
- in any case as many rows are accepted and rejected as were written, or more (a broken line).
"""

import argparse
import collections
import csv
import datetime as dt
import io
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import SparkSession

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recsys.config.configuration import Config
from recsys.errors import RecsysError
from recsys.ingest.judged_rows import judge_rows
from recsys.runtime import session
from recsys.runtime.run import new_run
from recsys.store.tables import Store

FILES_PER_GROUP = 10
ROWS = 20
Rows = list[tuple[str, str, float, str]]  # user, item, rating, title
_PLAIN = "abcXYZ012389_-."
_HOSTILE = ('"', '""', "'", "\\", '\\"', ",", ";", "\t", "|", " ", "#", "=", "%", "&", "/")
_WIDE = ("é", "ß", "Ж", "日本", "😀", "\u00a0", "İ")
_LATIN = ("é", "ß", "ü", "\u00a0")


@dataclass(frozen=True)
class Dialect:
    """How a program writes CSV.

    Attributes:
        name: of the program.
        write: makes a file below a folder, with a number, of rows.
        options: of Spark's reader, as the documentation says.
        more: further keys of the section `input`.
        header: whether the files have one.
        letters: which it can write beside ASCII.
        newlines: whether values may have line ends.
        strip: whether the program drops white space around values.
    """

    name: str
    write: Callable[[Path, int, Rows], None]
    options: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)
    header: bool = True
    letters: tuple[str, ...] = _WIDE
    newlines: bool = False
    strip: bool = False


@dataclass
class Report:
    """What came of the files."""

    files: collections.Counter[str] = field(default_factory=collections.Counter)
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    differences: list[str] = field(default_factory=list)


def word(chance: random.Random, dialect: Dialect) -> str:
    """Make an id; never blank, since a blank one is rejected."""
    parts = [chance.choice(_PLAIN) for _ in range(chance.randrange(1, 6))]
    pool = [*_HOSTILE, *dialect.letters, *(["\n"] if dialect.newlines else [])]
    if chance.random() < 0.5:
        for _ in range(chance.randrange(1, 4)):
            parts.insert(chance.randrange(len(parts) + 1), chance.choice(pool))
    text = "".join(parts)
    return text.strip() if dialect.strip else text


def rows(chance: random.Random, dialect: Dialect) -> Rows:
    made = []
    for _ in range(ROWS):
        rating = chance.choice([1.0, 2.5, 3.0, 4.5, 5.0])
        made.append((word(chance, dialect), word(chance, dialect), rating, word(chance, dialect)))
    return made


# How the programs write


def _pandas(encoding: str = "utf-8", compression: Any = None, **more: Any) -> Any:
    def write(folder: Path, number: int, made: Rows) -> None:
        frame = pd.DataFrame(made, columns=["u", "i", "r", "title"])
        name = f"{number}.csv" + {"gzip": ".gz", "bz2": ".bz2", "zstd": ".zst"}.get(compression, "")
        frame.to_csv(
            folder / name, encoding=encoding, compression=compression,
            **{"index": False, **more},
        )  # fmt: skip

    return write


def _spark(spark: SparkSession, **options: Any) -> Any:
    def write(folder: Path, number: int, made: Rows) -> None:
        frame = spark.createDataFrame(made, "u string, i string, r double, title string")
        place = folder / f"spark{number}"
        frame.coalesce(1).write.csv(str(place), header=True, **options)
        for part in place.glob("part-*"):
            part.rename(folder / f"{number}-{part.name}")
        shutil.rmtree(place)

    return write


def _r(decimal: str = ".", separator: str = ",", end: str = "\n", *, names: bool = True) -> Any:
    """As R's write.csv and write.csv2: row names, text in quotes, quotes doubled."""

    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    def write(folder: Path, number: int, made: Rows) -> None:
        head = [*(['""'] if names else []), '"u"', '"i"', '"r"', '"title"']
        lines = [separator.join(head)]
        for n, (user, item, rating, title) in enumerate(made, 1):
            value = f"{rating:g}".replace(".", decimal)
            first = [quoted(str(n))] if names else []
            lines.append(separator.join([*first, quoted(user), quoted(item), value, quoted(title)]))
        (folder / f"{number}.csv").write_bytes((end.join(lines) + end).encode())

    return write


def _sheet(encoding: str, separator: str, decimal: str = ".", *, every: bool = False) -> Any:
    """As spreadsheets: lines end in CR LF, quotes where they are needed or round all text."""

    def write(folder: Path, number: int, made: Rows) -> None:
        text = io.StringIO(newline="")
        quoting: Any = csv.QUOTE_NONNUMERIC if every else csv.QUOTE_MINIMAL
        writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator="\r\n")
        writer.writerow(["u", "i", "r", "title"])
        for user, item, rating, title in made:
            value: Any = f"{rating:g}".replace(".", decimal) if decimal != "." else rating
            writer.writerow([user, item, value, title])
        (folder / f"{number}.csv").write_bytes(text.getvalue().encode(encoding))

    return write


def dialects(spark: SparkSession) -> list[Dialect]:
    """Return the ways of writing, each with the options that read it."""
    multi, back = {"multiLine": True}, {"escape": "\\"}
    comma = {"decimal": ","}
    return [
        Dialect("pandas", _pandas(), {}),
        Dialect("pandas, line ends in text", _pandas(), multi, newlines=True),
        Dialect("pandas, index", _pandas(index=True), {}),
        Dialect("pandas, all quoted", _pandas(quoting=csv.QUOTE_ALL), {}),
        Dialect("pandas, tabs, CR LF", _pandas(sep="\t", lineterminator="\r\n"), {"sep": "\t"}),
        Dialect("pandas, semicolons, gzip", _pandas(sep=";", compression="gzip"), {"sep": ";"}),
        Dialect("pandas, bars, bz2", _pandas(sep="|", compression="bz2"), {"sep": "|"}),
        Dialect("pandas, zstd", _pandas(compression="zstd"), {}),
        Dialect("pandas, byte order mark", _pandas("utf-8-sig"), {}),
        Dialect("pandas, Latin 1", _pandas("latin-1"), {"encoding": "ISO-8859-1"}, letters=_LATIN),
        Dialect(
            "pandas, UTF-16", _pandas("utf-16"), {"encoding": "UTF-16", **multi}, newlines=True
        ),
        Dialect(
            "pandas, backslash",
            _pandas(doublequote=False, escapechar="\\", quoting=csv.QUOTE_ALL),
            back,
            letters=_WIDE,
        ),
        Dialect("pandas, no header", _pandas(header=False), {"header": False}, header=False),
        Dialect("Spark", _spark(spark), back, strip=True),
        Dialect("Spark, gzip", _spark(spark, compression="gzip"), back, strip=True),
        Dialect("Spark, tabs", _spark(spark, sep="\t"), {"sep": "\t", **back}, strip=True),
        Dialect("Spark, all quoted", _spark(spark, quoteAll=True), back, strip=True),
        Dialect("R, write.csv", _r(), {}),
        Dialect("R, write.csv, no row names", _r(names=False), multi, newlines=True),
        Dialect("R, write.csv2", _r(",", ";"), {"sep": ";"}, comma),
        Dialect("Excel, UTF-8", _sheet("utf-8-sig", ","), {}),
        Dialect("Excel, semicolons", _sheet("utf-8-sig", ";", ","), {"sep": ";"}, comma),
        Dialect(
            "Excel, Windows",
            _sheet("cp1252", ";", ","),
            {"sep": ";", "encoding": "windows-1252"},
            comma,
            letters=("é", "ß", "€"),
        ),
        Dialect("LibreOffice", _sheet("utf-8", ",", every=True), {}),
    ]


# How they are read


def read(spark: SparkSession, top: Path, folder: Path, dialect: Dialect, **other: Any) -> Any:
    """Read a folder as the job does, and return the rows as they were judged."""
    options = {"header": dialect.header, **dialect.options, **other}
    options = {key: value for key, value in options.items() if value is not None}
    names = ("u", "i", "r") if dialect.header else ("_c0", "_c1", "_c2")
    columns = dict(zip(("user", "item", "rating"), names, strict=True))
    config = Config.model_validate(
        {
            "root": str(top / "root"),
            "input": {"path": str(folder), "options": options, "columns": columns, **dialect.more},
            "deduplication": {"policy": "count"},
        }
    )
    run = new_run("fuzz", dt.date(2026, 11, 24))
    store = Store(spark, config.root)
    place = store.uri("rows")
    store.delete(place)
    return judge_rows(spark, store, config, run, place)


def compare(report: Report, name: str, written: list[Rows], judged: Any, *, right: bool) -> str:
    """Compare what was read with what was written, and say what came of it."""
    meant = collections.Counter((u, i, r) for made in written for u, i, r, _ in made)
    accepted = judged.rows.where("not rejected").select("user_id", "item_id", "rating").collect()
    found = collections.Counter((row[0], row[1], row[2]) for row in accepted)
    invented, lost = found - meant, meant - found
    if invented:
        report.differences.append(f"{name}: read {next(iter(invented))!r}, which nobody wrote")
    if judged.n_read < sum(meant.values()):
        report.differences.append(f"{name}: {judged.n_read} rows of {sum(meant.values())}")
    if right and (lost or judged.n_rejected):
        report.differences.append(
            f"{name}: lost {next(iter(lost), None)!r}, {judged.n_rejected} rejects: "
            f"{judged.rejected}"
        )
    return "as written" if not lost else "in part, the rest rejected"


def torture(spark: SparkSession, top: Path, n_files: int, seed: int) -> Report:
    """Write groups of files, and read each with its own options and some with others."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    report = Report()
    known = dialects(spark)
    for group in range(-(-n_files // FILES_PER_GROUP)):
        dialect = known[group % len(known)]
        folder = top / "files"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        written = [rows(chance, dialect) for _ in range(FILES_PER_GROUP)]
        for number, made in enumerate(written):
            dialect.write(folder, number, made)
        report.files[dialect.name] += len(written)
        trials: list[tuple[str, dict[str, Any], bool]] = [("right options", {}, True)]
        if "escape" in dialect.options or "multiLine" in dialect.options:
            trials.append(("other options", {"escape": None, "multiLine": None}, False))
        elif group % 3 == 0:
            trials.append(("other options", {"escape": "\\"}, False))
        for what, other, right in trials:
            name = f"{dialect.name}, group {group}, {what}"
            try:
                outcome = compare(
                    report, name, written, read(spark, top, folder, dialect, **other), right=right
                )
            except RecsysError as error:
                outcome = "refused"
                if right:
                    report.differences.append(f"{name}: refused: {error}")
            except ValueError as error:  # the configuration is refused
                outcome = "refused"
                if right:
                    report.differences.append(f"{name}: {error}")
            report.outcomes[f"{what}: {outcome}"] += len(written)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    began = time.perf_counter()
    spark = session.start(
        {
            "spark.master": "local[2]",
            "spark.driver.memory": "2g",
            "spark.ui.enabled": False,
            "spark.sql.shuffle.partitions": 1,
        }
    )
    with tempfile.TemporaryDirectory(prefix="recsys-fuzz-") as folder:
        report = torture(spark, Path(folder), given.files, given.seed)
    spark.stop()
    for name, n in sorted(report.files.items()):
        print(f"{n:6,} files: {name}")
    for outcome, n in sorted(report.outcomes.items()):
        print(f"{n:6,} files, {outcome}")
    for difference in report.differences:
        print(f"DIFFERENCE {difference[:500]}")
    print(f"{len(report.differences)} differences, {time.perf_counter() - began:.0f} s")
    if given.json is not None:
        found = {"outcomes": report.outcomes, "differences": report.differences}
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(bool(report.differences))


if __name__ == "__main__":
    main()
