"""`recsys init`: guesses on files with known answers, and lists from them with nothing edited."""

import csv
import datetime as dt
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from pyspark.sql import SparkSession

from recsys.cli import main as cli
from recsys.config.configuration import Config
from recsys.config.reading import load_config
from recsys.config.sections import Titles
from recsys.errors import InputError
from recsys.flows import commands
from recsys.flows.execution import check_configuration
from recsys.flows.init import look, written
from recsys.guess import matrix, samples, sql, text
from recsys.guess.names import ITEMS, USERS, says, tokens
from recsys.guess.ratings import scale
from recsys.guess.roles import Told, weight
from recsys.guess.tables import open_table
from recsys.guess.times import time_format
from recsys.ingest.judging import judge
from recsys.ingest.source import read_ratings
from recsys.publishing.export import placing
from recsys.score.titles import read_titles
from tests.conftest import collected, completejourney, shared_file, small_ratings, table

Run = Callable[..., dict[str, Any]]
NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)


def guess(
    *files: Path | str, to: Path | None = None, features: bool = False, **told: str
) -> Config:
    """Look at files, write a configuration, and read and check it as a run would."""
    draft, name = look([str(file) for file in files], Told(**told))
    place = (to or Path(str(files[0])).parent) / f"{name}.yaml"
    place.write_text(written(draft, place, features=features), encoding="utf-8")
    config = load_config(str(place))
    check_configuration(commands.run_command(), config)
    return config


def write(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding))
    return path


def ratings(n: int = 300) -> list[list[Any]]:
    """Make ratings with a time each, in seconds of 2025."""
    rows = small_ratings(n)
    return [[*row[:3], 1_750_000_000 + 60 * at] for at, row in enumerate(rows)]


def csv_text(rows: list[list[Any]], header: str = "user_id,item_id,rating,timestamp") -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


def rows_of(spark: SparkSession, config: Config) -> list[tuple[Any, ...]]:
    judged = judge(read_ratings(spark, config.input).rows, config.input, config.row_checks, NOW)
    return collected(judged.select("user_id", "item_id", "rating", "reason"))


# How text is written


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::", "^"])
def test_separator_quotes_and_header_are_found_again(
    tmp_path: Path, separator: str, quoting: int, header: bool
) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\x1f", quoting=quoting)  # type: ignore[arg-type]
        if header:
            writer.writerow(["user_id", "item_id", "rating", "name"])
        writer.writerows([*row[:3], f'The "{row[1]}", part 1; or so'] for row in ratings(200))
    path.write_text(path.read_text().replace("\x1f", separator))
    config = guess(path)
    options = config.input.options
    assert options.get("sep", ",") == separator
    assert options.get("header", False) is header
    names = ("user_id", "item_id", "rating") if header else ("_c0", "_c1", "_c2")
    found = config.input.columns
    assert (found.user, found.item, found.rating) == names


@pytest.mark.parametrize(
    ("encoding", "option"),
    [("utf-8", None), ("utf-8-sig", None), ("cp1252", "windows-1252"), ("utf-16", "UTF-16")],
)
def test_the_encoding_is_found_again(tmp_path: Path, encoding: str, option: str | None) -> None:
    rows = [[f"Müller {row[0]}", *row[1:]] for row in ratings(100)]
    config = guess(write(tmp_path / "a.csv", csv_text(rows), encoding))
    assert config.input.options.get("encoding") == option
    assert config.input.options.get("multiLine", False) is (encoding == "utf-16")
    assert config.input.columns.user == "user_id"


def test_text_over_several_lines_and_quotes_behind_backslashes_are_found(tmp_path: Path) -> None:
    rows = [[f'"{row[0]}\nof ""{n}"""', *row[1:]] for n, row in enumerate(ratings(100))]
    assert guess(write(tmp_path / "a.csv", csv_text(rows))).input.options["multiLine"] is True
    rows = [[rf'"{row[0]} \"the\" {n % 9}"', *row[1:]] for n, row in enumerate(ratings(100))]
    assert guess(write(tmp_path / "b.csv", csv_text(rows))).input.options["escape"] == "\\"


@pytest.mark.parametrize(
    ("first", "rows", "header"),
    [
        (["user", "item"], [["a", "b"], ["c", "d"]], True),
        (["a", "b"], [["a", "c"], ["d", "b"]], False),
        (["1", "2", "5"], [["1", "3", "4"], ["2", "2", "1"]], False),
        (["user_id", "101", "102"], [["u1", "5", ""], ["u2", "", "3"]], True),
        (["who", "what", "stars"], [["a", "x", "5"], ["b", "y", "4"]], True),
        (["0001", "The Bank (1915)", "Comedy"], [["0002", "The Cheat", "Drama"]], False),
    ],
)
def test_a_first_line_is_a_header_if_it_has_names(
    first: list[str], rows: list[list[str]], header: bool
) -> None:
    assert text.has_header([first, *rows]) is header


# What values mean


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["2026-11-24", "2026-01-02T08:30:00Z"], "iso"),
        (["2010-12-01 08:26:00"], "iso"),
        (["24.11.2026 08:30", "1.2.2026 9:05"], "d.M.yyyy H:mm"),
        (["12/24/2010 8:26", "1/2/2011 10:00"], "M/d/yyyy H:mm"),
        (["24/12/2010", "02/01/2011"], "d/M/yyyy"),
        (["1364690142", "978300760"], "seconds"),
        (["1364690142000"], "milliseconds"),
        (["1364690142000000"], "microseconds"),
        (["20260105", "20261231"], "yyyyMMdd"),
        (["12", "300"], None),
        (["a1", "b2"], None),
    ],
)
def test_the_format_of_times_is_found(values: list[str], found: str | None) -> None:
    numbers = pd.to_numeric(pd.Series(values), errors="coerce").dropna().to_numpy(float)
    layout, _ = time_format(
        pd.Series(values), numbers if len(numbers) == len(values) else np.empty(0)
    )
    assert layout == found


def test_days_that_may_be_months_are_said_to_be_unsure() -> None:
    layout, unsure = time_format(pd.Series(["1/2/2011", "3/4/2011"]), np.empty(0))
    assert layout == "M/d/yyyy"
    assert "d/M/yyyy" in unsure


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ([1, 2, 3, 4, 5, 5, 4], "rating", (1, 5, 4, "max")),
        ([0.5, 3.5, 5, 4, 4.5], "stars", (0.5, 5, 4, "max")),
        ([0, 7, 8, 10, 9], None, (0, 10, 6, "max")),
        ([-9.5, 3, 9.8, 5, -2], None, (-10, 10, 2, "max")),
        ([1, 2, 3, 40], "quantity", (None, None, None, "sum")),
        ([1, -2, 3, 40], "Quantity", (None, None, 1, "sum")),
        ([1, 2, 3, 29447], "quantity", (None, None, None, "count")),
        ([1, 2, 5000], "plays", (None, None, None, "sum")),
        ([1, 1, 1], "rating", (None, None, None, "max")),
        ([0, 1, 1], "liked", (None, None, 1, "max")),
    ],
)
def test_scale_threshold_and_policy_follow_from_ratings(
    values: list[float], name: str | None, expected: tuple[Any, ...]
) -> None:
    found = scale(np.array(values, dtype=float), name)
    assert (found.low, found.high, found.threshold, found.policy) == expected


def test_names_of_columns_are_read_as_words() -> None:
    assert (
        tokens("CustomerID") == tokens("customer_id") == tokens("customerid") == ["customer", "id"]
    )
    assert says("person_id", USERS) > says("author_person_id", USERS) > 0
    assert says("StockCode", ITEMS) > 0.9
    assert says("store_id", USERS | ITEMS) == 0


def test_events_weigh_more_the_more_they_cost() -> None:
    weights = [weight(event) for event in ("VIEW", "LIKE", "COMMENT CREATED", "purchase")]
    assert weights == sorted(weights)  # type: ignore[type-var]
    assert weight("removefromcart") == weight("DISLIKE") == 0
    assert weight("addtocart") == 3
    assert weight("xyzzy") is None


# Tables with a row for each rating


def test_columns_types_policy_and_threshold_are_found_whatever_their_order(tmp_path: Path) -> None:
    rows = [[row[3], row[1][1:], row[2], row[0][1:].lstrip("0") or "0"] for row in ratings()]
    config = guess(write(tmp_path / "a.csv", csv_text(rows, "when,movieId,score,customerNo")))
    columns, types = config.input.columns, config.input.id_types
    assert (columns.user, columns.item) == ("customerNo", "movieId")
    assert (columns.rating, columns.timestamp) == ("score", "when")
    assert types.user == "int"
    assert types.item == "source"  # 007 is not 7
    assert config.deduplication.policy == "last"
    assert config.filters.rating_threshold == 4
    assert (config.row_checks.rating_min, config.row_checks.rating_max) == (1, 5)


def test_a_column_without_a_name_is_called_as_spark_calls_it(tmp_path: Path) -> None:
    frame = pd.DataFrame(ratings(), columns=["user_id", "item_id", "rating", "timestamp"])
    frame.to_csv(tmp_path / "a.csv")
    config = guess(tmp_path / "a.csv")
    assert config.input.columns.user == "user_id"
    assert list(open_table(str(tmp_path / "a.csv")).columns)[:2] == ["_c0", "user_id"]
    wide = pd.DataFrame(MATRIX, columns=["joke 1", "joke 2", "joke 3", "it's"], dtype=float)
    wide.index = pd.Index([7, 8, 9])
    wide.to_csv(tmp_path / "wide.csv")
    found = matrix.find_matrix(open_table(str(tmp_path / "wide.csv")))
    assert found is not None
    assert (found.ids, found.names) == ("_c0", list(wide.columns))
    (tmp_path / "titles.csv").write_text(",title\ni1,First\n")
    titles = Titles(path=str(tmp_path / "titles.csv"), options={"header": True}, column="_c0")
    assert read_titles(titles, str) == {"i1": "First"}


def test_a_column_that_is_named_on_the_command_line_is_no_guess(tmp_path: Path) -> None:
    rows = [[row[0], row[1], row[0][::-1], row[2]] for row in ratings()]
    path = write(tmp_path / "a.csv", csv_text(rows, "user_id,item_id,alias,rating"))
    assert guess(path, user="alias").input.columns.user == "alias"
    with pytest.raises(InputError, match=r"no column 'nobody'; .*user_id, item_id, alias"):
        look([str(path)], Told(user="nobody"))


def test_rows_without_a_user_raise_the_limit_of_rejects(tmp_path: Path) -> None:
    rows = [[row[0] if n % 4 else "", *row[1:]] for n, row in enumerate(ratings(400))]
    config = guess(write(tmp_path / "a.csv", csv_text(rows)))
    assert config.row_checks.max_rejected_share == 0.3


def test_a_mark_for_what_is_missing_is_no_user(tmp_path: Path) -> None:
    rows = [[row[0] if n % 4 else "NA", *row[1:]] for n, row in enumerate(ratings(400))]
    config = guess(write(tmp_path / "a.csv", csv_text(rows)))
    assert config.input.options["nullValue"] == "NA"
    assert config.row_checks.max_rejected_share == 0.3


def test_files_that_are_written_alike_are_one_source(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"a{n}.csv", csv_text(ratings(50 + n))) for n in range(3)]
    assert guess(*paths).input.paths == [str(path) for path in paths]
    assert guess(tmp_path, to=tmp_path).input.paths == [str(path) for path in paths]


def test_names_that_spark_would_take_for_patterns_are_written_as_they_are_meant(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = write(tmp_path / "a[1]*.csv", csv_text(ratings(50)))
    write(tmp_path / "a1b.csv", "no ratings at all\n")
    config = guess(path)
    assert len(rows_of(spark, config)) == 50


def test_parquet_json_and_gzip_are_read_without_words_about_them(tmp_path: Path) -> None:
    frame = pd.DataFrame(ratings(), columns=["user", "item", "rating", "timestamp"])
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="s")
    frame.to_parquet(tmp_path / "a.parquet")
    config = guess(tmp_path / "a.parquet")
    assert (config.input.format, config.input.columns.timestamp) == ("parquet", "timestamp")
    frame.to_json(tmp_path / "b.json", orient="records", lines=True, date_format="iso")
    assert guess(tmp_path / "b.json").input.format == "json"
    frame.to_json(tmp_path / "c.json", orient="records", indent=2)
    assert guess(tmp_path / "c.json").input.options == {"multiLine": True}
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(csv_text(ratings()).encode()))
    assert guess(tmp_path / "d.csv.gz").input.options == {"header": True}


def test_of_a_large_file_only_pieces_from_all_over_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "MOST_BYTES", 2**14)
    monkeypatch.setattr(samples, "_PIECE", 2**11)
    rows = sorted(([n // 50, n % 40, n % 5 + 1] for n in range(20_000)), key=lambda row: row[1])
    path = write(tmp_path / "a.csv", csv_text(rows, "user_id,item_id,rating"))
    sample = samples.read_sample(path)
    assert len(sample.content) <= 2**14
    assert not sample.whole
    items = {line.split(b",")[1] for line in sample.content.splitlines()[1:]}
    assert len(items) > 5  # the file is sorted by them
    assert all(line.count(b",") == 2 for line in sample.content.splitlines())
    draft, _ = look([str(path)], Told())
    assert "about " in draft.said["ratings"]
    about = int(draft.said["ratings"].split("about ")[1].split()[0].replace(",", ""))
    assert abs(about - 20_000) < 1_000


# What lies beside


def test_titles_are_found_by_the_ids_and_not_by_the_name_of_their_column(tmp_path: Path) -> None:
    rows = [[row[0], 1 + int(row[1][1:]), row[2]] for row in ratings()]
    path = write(tmp_path / "ratings.csv", csv_text(rows, "user_id,book_id,rating"))
    # A few ids of ratings are in the column with their name, too, as in goodbooks-10k.
    books = [f'{n},{n + 25},"Title, {n} of <b>"' for n in range(1, 41)]
    write(tmp_path / "books.csv", "\n".join(["id,book_id,title", *books]))
    titles = guess(path).items.titles
    assert titles is not None
    assert (titles.column, titles.title) == ("id", "title")
    assert read_titles(titles, lambda one: int(str(one)))[7] == "Title, 7 of <b>"


def test_titles_may_stand_in_the_ratings_own_table(tmp_path: Path) -> None:
    rows = [[*row[:3], f"Lantern no. {row[1]}"] for row in ratings()]
    path = write(tmp_path / "a.csv", csv_text(rows, "CustomerID,StockCode,Quantity,Description"))
    config = guess(path)
    assert config.items.titles is not None
    assert (config.items.titles.column, config.items.titles.title) == ("StockCode", "Description")


def test_features_are_proposed_as_a_comment_that_loads_once_it_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "ratings.csv", csv_text(ratings()))
    kinds = ["drama|war", "comedy|war"]
    names = [f"The {chr(65 + n % 26)}{chr(65 + n // 26)}" for n in range(40)]
    about = [
        f"i{n:03},{name},{kinds[n % 2]},{1950 + n % 18},http://a.b/{n}.jpg,4.2"
        for n, name in enumerate(names)
    ]
    header = "item_id,title,genres,year,image_url,average_rating"
    write(tmp_path / "films.csv", "\n".join([header, *about]))
    write(
        tmp_path / "people.csv",
        "user_id,country\n" + "".join(f"u{n:03},{'DE' if n % 3 else 'FR'}\n" for n in range(30)),
    )
    used = guess(path, features=True).features
    assert set(used.items["films"].groups) == {"genres", "year"}
    assert used.items["films"].groups["genres"].separator == "|"
    assert set(used.users["people"].groups) == {"country"}
    draft, _ = look([str(path)], Told())
    plain = written(draft, Path("a.yaml"), features=False)
    assert "features" not in yaml.safe_load(plain)
    comment = plain[plain.index("# features:") :]
    section = yaml.safe_load("\n".join(line.removeprefix("# ") for line in comment.splitlines()))
    assert Config.model_validate(section).features == used


# Shapes that a query makes rows of

EVENTS = [
    ("a", "x", "VIEW"),
    ("a", "x", "LIKE"),
    ("b", "x", "COMMENT CREATED"),
    ("b", "y", "DISLIKE"),
]


def test_an_event_log_gets_weights(spark: SparkSession, tmp_path: Path) -> None:
    rows = [
        [user, item, kind, f"2026-01-{n % 28 + 1:02}"]
        for n, (user, item, kind) in enumerate(EVENTS * 5)
    ]
    path = write(tmp_path / "log.csv", csv_text(rows, "personId,contentId,eventType,at"))
    config = guess(path)
    assert config.deduplication.policy == "sum"
    assert set(rows_of(spark, config)) == {
        ("a", "x", 1.0, None),
        ("a", "x", 2.0, None),
        ("b", "x", 4.0, None),
        ("b", "y", 0.0, None),
    }
    with path.open("a") as file:
        file.write("b,y,RATE,2026-02-01\n")  # an event that was not there
    assert ("b", "y", None, "rating_missing") in rows_of(spark, config)


MATRIX = [[5, None, 2, 1], [None, 4, 4, None], [1, 5, None, 3]]


def matrix_text(cells: list[list[Any]], missing: str, ids: list[str] | None, header: str) -> str:
    lines = [header] if header else []
    for n, row in enumerate(cells):
        values = [missing if value is None else str(value) for value in row]
        lines.append(",".join([*([ids[n]] if ids else []), *values]))
    return "\n".join(lines) + "\n"


def expected(cells: list[list[Any]], users: list[Any], items: list[str]) -> list[tuple[Any, ...]]:
    found = [
        (users[n], items[m], float(value), None)
        for n, row in enumerate(cells)
        for m, value in enumerate(row)
        if value is not None
    ]
    return sorted(found, key=repr)


def test_a_wide_matrix_becomes_rows(spark: SparkSession, tmp_path: Path) -> None:
    users = ["u1", "u2", "u3"]
    items = ["joke 1", "joke 2", "joke 3", "it's"]
    header = ",".join(["user", *items])
    config = guess(write(tmp_path / "a.csv", matrix_text(MATRIX, "", users, header)))
    assert rows_of(spark, config) == expected(MATRIX, users, items)
    frame = pd.DataFrame(MATRIX, columns=items, dtype=float)
    frame.insert(0, "user", users)
    frame.to_parquet(tmp_path / "b.parquet")
    assert rows_of(spark, guess(tmp_path / "b.parquet")) == expected(MATRIX, users, items)


@pytest.mark.parametrize("separator", [",", "^", "|", "\t"])
def test_a_matrix_of_very_many_columns_is_read_by_lines(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str
) -> None:
    monkeypatch.setattr(matrix, "_MOST_COLUMNS", 3)
    header = ",".join(["product", *(f"customer {n}" for n in range(4))])
    items = ["p1", "p2", "p3"]
    made = matrix_text(MATRIX, "", items, header).replace(",", separator)
    config = guess(write(tmp_path / "a.csv", made))
    assert config.input.options == {"wholetext": True}
    turned = [[row[n] for row in MATRIX] for n in range(4)]
    users = [f"customer {n}" for n in range(4)]
    assert rows_of(spark, config) == expected(turned, users, items)
    monkeypatch.setattr(matrix, "MOST_IN_ONE_PIECE", 10)
    with pytest.raises(InputError, match=r"wide matrix .* at most .* a row for each rating"):
        guess(tmp_path / "a.csv")


def test_a_wide_matrix_without_ids_has_the_numbers_of_its_lines(
    spark: SparkSession, tmp_path: Path
) -> None:
    wide = [[*row, *row, *row] for row in MATRIX]
    counts = [str(sum(value is not None for value in row)) for row in wide]
    # As in Jester: how many ratings a line has, and 99 for those that are missing.
    path = write(tmp_path / "a.csv", matrix_text(wide, "99", counts, ""))
    config = guess(path)
    assert config.input.options == {"wholetext": True}
    items = [str(n) for n in range(1, 13)]
    assert rows_of(spark, config) == expected(wide, [1, 2, 3], items)
    named = [f"j{n}" for n in range(1, 13)]
    path = write(tmp_path / "b.csv", matrix_text(wide, "", None, ",".join(named)))
    assert rows_of(spark, guess(path)) == expected(wide, [1, 2, 3], named)


@pytest.mark.parametrize(
    "separator", [*text._SEPARATORS, ".", "]", "[", "\\", "-", "'", "||", "^|", "|^", "; ", "$"]
)
def test_the_pattern_of_a_separator_finds_it_and_nothing_else(separator: str) -> None:
    literal = sql.pattern(separator)
    for inside, plain in (("\\'", "'"), ("\\t", "\t"), ("\\\\", "\\")):
        literal = literal.replace(inside, plain)
    around = "a.b]c[d\\e-f'g|h^i;j k$l".split(separator)
    assert re.split(literal[1:-1], separator.join(around)) == around


def test_a_separator_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="found an empty separator"):
        sql.pattern("")


NUMBERED = list(enumerate([["x", "y"], ["y"], ["z", "y", "x"], ["y", "z"]]))


def documents(make: Callable[[str, list[str]], dict[str, Any]]) -> list[str]:
    return [json.dumps(make(f"u{n}", one)) for n, one in NUMBERED]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.tsv", ["customer\titems", *(f"u{n}\t{'|'.join(one)}" for n, one in NUMBERED)]),
        ("b.csv", ["user,liked", *(f'u{n},"{",".join(one)}"' for n, one in NUMBERED)]),
        ("c.txt", [" ".join([f"u{n}", *one]) for n, one in NUMBERED]),
        ("d.txt", [f"u{n}: {', '.join(one)}" for n, one in NUMBERED]),
        ("e.json", documents(lambda user, one: {"user": user, "items": one})),
        (
            "f.json",
            documents(
                lambda user, one: {"user": {"id": user}, "basket": [{"sku": i} for i in one]}
            ),
        ),
    ],
)
def test_a_list_a_line_becomes_rows(
    spark: SparkSession, tmp_path: Path, name: str, lines: list[str]
) -> None:
    config = guess(write(tmp_path / name, "\n".join(lines) + "\n"))
    found = rows_of(spark, config)
    wanted = [(f"u{n}", item, 1.0, None) for n, one in NUMBERED for item in one]
    assert found == sorted(wanted, key=repr)


def test_a_list_a_line_without_users_has_the_numbers_of_its_lines(
    spark: SparkSession, tmp_path: Path
) -> None:
    lists = [["rolls, brown", "milk"], ["milk", "tea", "jam"], ["milk"], ["tea", "rolls, brown"]]
    lines = [",".join(f'"{item}"' if "," in item else item for item in one) for one in lists]
    config = guess(write(tmp_path / "baskets.csv", "\r\n".join(lines) + "\r\n"))
    wanted = [(n + 1, item, 1.0, None) for n, one in enumerate(lists) for item in one]
    assert rows_of(spark, config) == sorted(wanted, key=repr)


# From a raw file to lists


@pytest.mark.parametrize("shape", ["events", "matrix", "lists"])
def test_a_raw_file_becomes_published_lists_with_nothing_edited(
    run: Run, tmp_path: Path, shape: str
) -> None:
    rows = small_ratings(400)
    users = sorted({row[0] for row in rows})
    items = sorted({row[1] for row in rows})
    if shape == "events":
        kinds = {1: "hide", 2: "view", 3: "view", 4: "like", 5: "purchase"}
        log = [[*row[:2], kinds[row[2]]] for row in rows]
        path = write(tmp_path / "log.csv", csv_text(log, "user,item,event"))
    elif shape == "matrix":
        rated = {(row[0], row[1]): row[2] for row in rows}
        cells = [[rated.get((user, item)) for item in items] for user in users]
        header = ",".join(["user", *items])
        path = write(tmp_path / "wide.csv", matrix_text(cells, "", users, header))
    else:
        lists = [" ".join([user, *{row[1] for row in rows if row[0] == user}]) for user in users]
        path = write(tmp_path / "lists.txt", "\n".join(lists))
    config = guess(path)
    sections = config.model_dump(include={"input", "row_checks", "deduplication", "filters"})
    found = table(run("run", **sections), "recommendations")
    assert set(found["user_id"]) == set(users)
    assert set(found["item_id"]) <= set(items)
    assert found.groupby("user_id").size().max() == 10


# The command


def call(*arguments: str) -> tuple[int, str, str]:
    ran = CliRunner().invoke(cli, ["init", *arguments])
    return ran.exit_code, ran.stdout, ran.stderr


def test_the_command_says_what_it_found_and_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "shop.csv", csv_text(ratings()))
    status, out, _ = call("shop.csv")
    assert status == 0
    assert "wrote shop.yaml; next: recsys run --config shop.yaml" in out
    assert "users     user_id, 30 different ones" in out
    before = (tmp_path / "shop.yaml").read_text()
    assert load_config("shop.yaml").root == "output/shop"
    status, out, err = call("shop.csv")
    assert (status, out) == (8, "")
    assert err.splitlines() == [
        "recsys: error: shop.yaml is there already, and is never overwritten; choose another name "
        "by --output"
    ]
    assert (tmp_path / "shop.yaml").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop.csv", "shop.yaml"]
    status, out, err = call("shop.csv", "--output", "no/shop.yaml")
    assert (status, out, len(err.splitlines())) == (8, "", 1)
    assert "cannot write no/shop.yaml: No such file or directory; check" in err
    status, out, _ = call("shop.csv", "--output", "other.yaml", "--json")
    assert json.loads(out)["config"] == "other.yaml"
    assert json.loads(out)["next"] == "recsys run --config other.yaml"


def test_a_configuration_that_somebody_else_writes_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "shop.csv", csv_text(ratings()))
    sync = placing._sync

    def first(path: Path) -> None:
        sync(path)
        (tmp_path / "shop.yaml").write_text("of somebody else")

    monkeypatch.setattr(placing, "_sync", first)
    status, _, err = call("shop.csv")
    assert status == 8
    assert "shop.yaml is there already, and is never overwritten" in err
    assert (tmp_path / "shop.yaml").read_text() == "of somebody else"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop.csv", "shop.yaml"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "there is no such file; check the path"),
        ("empty.csv", b"", "the file is empty"),
        ("a.xlsx", b"PK\x03\x04xxxx", "save the sheet as CSV"),
        ("a.bin", b"\x00\x01\x02\x03" * 99, "this is no text"),
        (
            "a.csv",
            b"colour,shape\nred,round\nblue,square\nred,flat\n",
            "--user COLUMN --item COLUMN",
        ),
        ("a.csv", b"user,item,item\n1,2,3\n4,5,6\n", "'item' more than once; rename"),
        ("a.csv", b"\x1f\x8bxxxx", "rename it to end in .gz"),
        ("a.csv", b"user,item,rating\r1,2,3\r2,4,1\r3,5,2\r", "end its lines with a line feed"),
    ],
)
def test_what_cannot_be_guessed_is_said_in_one_line_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    status, out, err = call(name)
    assert (status, out) == (3, "")
    [line] = err.splitlines()
    assert line.startswith("recsys: error: ")
    assert said in line
    assert not list(tmp_path.glob("*.yaml"))


def test_a_file_beside_the_ratings_that_cannot_be_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.csv", csv_text(ratings()))
    gone = tmp_path / "gone.csv"
    with pytest.raises(InputError, match=r"gone.csv: cannot be read \(.*\); check the file"):
        open_table(str(gone))
    monkeypatch.setattr(samples, "beside", lambda _: [str(gone)])
    assert guess(path).input.columns.user == "user_id"


# Real files, as they are


def test_goodbooks_is_read_by_what_was_guessed(spark: SparkSession, tmp_path: Path) -> None:
    config = guess(shared_file("goodbooks/ratings.csv"), to=tmp_path)
    columns = config.input.columns
    assert (columns.user, columns.item, columns.rating) == ("user_id", "book_id", "rating")
    assert (config.deduplication.policy, config.filters.rating_threshold) == ("max", 4)
    assert config.items.titles is not None
    assert config.items.titles.column == "id"
    assert read_titles(config.items.titles, lambda one: int(str(one)))[1].startswith(
        "The Hunger Games"
    )
    none_rejected(spark, config)


def test_movietweetings_is_read_by_what_was_guessed(spark: SparkSession, tmp_path: Path) -> None:
    config = guess(shared_file("movietweetings/ratings.dat"), to=tmp_path)
    columns = config.input.columns
    assert (columns.user, columns.item, columns.rating) == ("_c0", "_c1", "_c2")
    assert columns.timestamp == "_c3"
    assert (config.input.id_types.user, config.input.id_types.item) == ("int", "source")
    assert config.items.titles is not None
    assert read_titles(config.items.titles, str)["0005078"] == "The Cheat (1915)"
    none_rejected(spark, config)


def test_online_retail_is_read_by_what_was_guessed(spark: SparkSession, tmp_path: Path) -> None:
    config = guess(shared_file("online-retail/onlineretail.csv.gz"), to=tmp_path)
    columns = config.input.columns
    assert (columns.user, columns.item) == ("CustomerID", "StockCode")
    assert (columns.rating, columns.timestamp) == ("Quantity", "InvoiceDate")
    assert (config.deduplication.policy, config.filters.rating_threshold) == ("sum", 1)
    assert config.row_checks.max_rejected_share >= 0.3
    assert config.items.titles is not None
    assert config.items.titles.title == "Description"
    none_rejected(spark, config, but="user_missing")


def test_the_complete_journey_is_read_by_what_was_guessed(
    spark: SparkSession, tmp_path: Path
) -> None:
    config = guess(completejourney("transactions"), completejourney("products"), to=tmp_path)
    columns = config.input.columns
    assert (columns.user, columns.item) == ("household_id", "product_id")
    assert (columns.rating, columns.timestamp) == (None, "transaction_timestamp")
    assert config.deduplication.policy == "count"
    assert config.items.titles is not None
    assert config.items.titles.title == ["product_type", "department"]
    none_rejected(spark, config)


def none_rejected(spark: SparkSession, config: Config, but: str | None = None) -> None:
    """Judge some rows: no other reason than one is there."""
    some = read_ratings(spark, config.input).rows.limit(5_000)
    judged = judge(some, config.input, config.row_checks, NOW)
    reasons = {row["reason"] for row in judged.select("reason").distinct().collect()}
    assert reasons <= {None, but}
    assert None in reasons
