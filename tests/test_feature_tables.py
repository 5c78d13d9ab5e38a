"""Tables of features: every row accounted for, whatever they look like."""

import datetime as dt
import random
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from recsys.columns import IdTypes
from recsys.config.feature_names import feature_name, range_names
from recsys.config.sections import FeatureGroup
from recsys.errors import ConfigError, InputError, TooManyRejectsError
from recsys.ingest.features import PreparedFeatures, look, prepare_features, states
from recsys.runtime.run import new_run
from recsys.store.tables import Store
from tests.conftest import RUN_DATE, collected, configured

TEXT = IdTypes("string", "string")
CATEGORIES = {"kind": "categories", "separator": "|"}


class Prepare:
    """Prepares features of items below a directory of the test."""

    def __init__(self, spark: SparkSession, root: Path) -> None:
        self.spark, self.root, self.n = spark, root, 0

    def sources(
        self, *, types: IdTypes = TEXT, run_id: str = "", **sources: Any
    ) -> PreparedFeatures:
        self.n += 1
        checks = {"max_rejected_share": 0.9}
        features = {"items": sources}
        config = configured(self.root / "out", features=features, row_checks=checks)
        store = Store(self.spark, config.root)
        run = new_run(run_id or f"r{self.n}", RUN_DATE)
        staging = store.uri(f"staging{self.n}")
        found = prepare_features(
            self.spark, store, config, run, types, staging, states(self.spark, config)
        )
        assert found is not None
        return found

    def csv(self, text: str, groups: dict[str, Any], **more: Any) -> PreparedFeatures:
        path = self.root / f"features{self.n}.csv"
        path.write_text(text, encoding="utf-8", errors="surrogateescape")  # "\udcff" is no text
        every = {"options": {"header": True}, "path": str(path), "id": "id", "groups": groups}
        types = more.pop("types", TEXT)
        return self.sources(types=types, **{"table": {**every, **more}})

    def rows(self, rows: list[Any], schema: str, groups: dict[str, Any], **more: Any) -> Any:
        path = str(self.root / f"features{self.n}")
        self.spark.createDataFrame(rows, schema).write.parquet(path)
        return self.sources(table={"format": "parquet", "path": path, "groups": groups, **more})


@pytest.fixture
def prepare(spark: SparkSession, tmp_path: Path) -> Prepare:
    return Prepare(spark, tmp_path)


def features(found: PreparedFeatures) -> list[tuple[Any, ...]]:
    return sorted(collected(found.rows["items"]), key=str)


def values(found: PreparedFeatures) -> list[tuple[Any, ...]]:
    return collected(found.values["items"])


def report(found: PreparedFeatures) -> Any:
    assert found.manifest.items is not None
    return found.manifest.items.sources["table"]


def rejects(prepare: Prepare, found: PreparedFeatures) -> list[tuple[Any, ...]]:
    place = prepare.root / "out/features" / found.manifest.features_id / "rejects"
    return sorted(collected(prepare.spark.read.parquet(str(place))), key=str)


def test_values_are_compared_normalised_and_kept_as_most_rows_have_them(prepare: Prepare) -> None:
    text = "id,genre\na,Film  Noir\nb, film noir \nc,Film Noir\nd,Drama\ne,1990.0\nf,1990\ng,\n"
    found = prepare.csv(text, {"genre": {}})
    assert features(found) == [
        ("a", "genre", "film noir", 1.0),
        ("b", "genre", "film noir", 1.0),
        ("c", "genre", "film noir", 1.0),
        ("e", "genre", "1990", 1.0),
        ("f", "genre", "1990", 1.0),
    ]
    assert values(found) == [
        ("genre", "1990", "1990", 2),
        ("genre", "film noir", "Film Noir", 3),
    ]
    assert found.manifest.items is not None
    group = found.manifest.items.groups["genre"]
    assert (group.ids, group.features, group.rare_values, group.edges) == (5, 2, 1, None)


def test_a_value_that_is_missing_is_a_feature_where_that_is_asked_for(prepare: Prepare) -> None:
    text = "id,genre,tags,year\na,x,p|q,1995\nb,,,NaN\nc,,|,\n"
    one = {"missing": True, "min_count": 1}
    groups = {
        "genre": one,
        "tags": {**CATEGORIES, **one},
        "year": {"kind": "number", "edges": [2000], **one},
    }
    assert features(prepare.csv(text, groups)) == [
        ("a", "genre", "x", 1.0),
        ("a", "tags", "p", 1.0),
        ("a", "tags", "q", 1.0),
        ("a", "year", "below 2000", 1.0),
        ("b", "genre", "", 1.0),
        ("b", "tags", "", 1.0),
        ("b", "year", "", 1.0),
        ("c", "genre", "", 1.0),
        ("c", "tags", "", 1.0),
        ("c", "year", "", 1.0),
    ]


@pytest.mark.parametrize("separator", ["|", "::", ".", "\\E", "a"])
def test_several_values_in_text_whatever_separates_them(prepare: Prepare, separator: str) -> None:
    text = f"id\ttags\nx\tu{separator}v{separator}{separator} u\n"
    groups = {"tags": {"kind": "categories", "separator": separator, "min_count": 1}}
    found = prepare.csv(text, groups, options={"header": True, "sep": "\t"})
    assert features(found) == [("x", "tags", "u", 1.0), ("x", "tags", "v", 1.0)]


def test_arrays_maps_and_pairs(prepare: Prepare) -> None:
    pair = Row("name", "share")
    rows = [
        ("a", ["X", None, "y"], {"p": 0.5, "q": 0.0}, [pair("r", 2), pair(None, 1)], True),
        ("b", [], {"p": float("inf"), "P": 0.25}, None, False),
        ("c", None, None, [], True),
    ]
    schema = (
        "id string, tags array<string>, shares map<string,double>, "
        "pairs array<struct<name:string,share:int>>, new boolean"
    )
    one = {"min_count": 1}
    groups = {
        "tags": {"kind": "categories", **one},
        "shares": {"kind": "weighted", **one},
        "pairs": {"kind": "weighted", **one},
        "new": one,
    }
    found = prepare.rows(rows, schema, groups)
    assert features(found) == [
        ("a", "new", "true", 1.0),
        ("a", "pairs", "r", 2.0),
        ("a", "shares", "p", 0.5),
        ("a", "tags", "x", 1.0),
        ("a", "tags", "y", 1.0),
        ("b", "new", "false", 1.0),
        ("b", "shares", "p", 0.25),
        ("c", "new", "true", 1.0),
    ]
    assert report(found).values_rejected == {
        "pairs": {"value_missing": 1},
        "shares": {"weight_invalid": 2},
    }
    key = "features.items.table"
    assert rejects(prepare, found) == [
        (key, "value_missing", "a", "pairs", None, None),
        (key, "weight_invalid", "a", "shares", "q", None),
        (key, "weight_invalid", "b", "shares", "p", None),
    ]


def test_weights_that_are_none_are_values_that_cannot_be_used(prepare: Prepare) -> None:
    """1e39 is infinite and 1e-60 nothing in single precision, in which features are learned."""
    infinite = float("inf")
    bad = [None, 0.0, -1.0, float("nan"), infinite, -infinite, 1e39, 1e-60]
    rows = [(f"{n}", {"bad": weight, "good": 0.5}) for n, weight in enumerate(bad)]
    groups = {"shares": {"kind": "weighted", "min_count": 1}}
    found = prepare.rows(rows, "id string, shares map<string,double>", groups)
    assert features(found) == [(f"{n}", "shares", "good", 0.5) for n in range(len(bad))]
    assert report(found).values_rejected == {"shares": {"weight_invalid": len(bad)}}


def test_names_that_are_none_and_weights_in_text(prepare: Prepare) -> None:
    pair = Row("name", "share")
    rows = [
        ("a", ["x", "", " \t", None], {"p": " 0.5", "q": "much", "": "1"}, [None, pair("r", 1.0)]),
        ("b", ["", None], {"": "x"}, [pair(None, None), pair("\u00a0", 1.0), pair("r", None)]),
        ("c", [None], {}, [None]),
    ]
    schema = (
        "id string, tags array<string>, shares map<string,string>, "
        "pairs array<struct<name:string,share:double>>"
    )
    one = {"min_count": 1, "missing": True}
    groups = {
        "tags": {"kind": "categories", **one},
        "shares": {"kind": "weighted", **one},
        "pairs": {"kind": "weighted", **one},
    }
    found = prepare.rows(rows, schema, groups)
    # What cannot be used is not missing.
    assert features(found) == [
        ("a", "pairs", "r", 1.0),
        ("a", "shares", "p", 0.5),
        ("a", "tags", "x", 1.0),
        ("b", "tags", "", 1.0),
        ("c", "pairs", "", 1.0),
        ("c", "shares", "", 1.0),
        ("c", "tags", "", 1.0),
    ]
    assert report(found).values_rejected == {
        "pairs": {"value_missing": 2, "weight_invalid": 1},
        "shares": {"value_missing": 2, "weight_invalid": 1},
    }
    key = "features.items.table"
    assert rejects(prepare, found) == [
        (key, "value_missing", "a", "shares", "", None),
        (key, "value_missing", "b", "pairs", "", None),
        (key, "value_missing", "b", "pairs", None, None),
        (key, "value_missing", "b", "shares", "", None),
        (key, "weight_invalid", "a", "shares", "q", None),
        (key, "weight_invalid", "b", "pairs", "r", None),
    ]


def test_bytes_that_are_no_text_are_no_value_and_no_id(prepare: Prepare) -> None:
    text = "id,genre,tags,year\na,x\udcff,p|q\udcff|r,19\udcff5\nb\udcff,x,p,1995\nc,x,p,1995\n"
    one = {"min_count": 1}
    groups = {"genre": one, "tags": {**CATEGORIES, **one}, "year": {"kind": "number", **one}}
    found = prepare.csv(text, groups)
    assert [row[:3] for row in features(found) if row[1] != "year"] == [
        ("a", "tags", "p"),
        ("a", "tags", "r"),
        ("c", "genre", "x"),
        ("c", "tags", "p"),
    ]
    assert report(found).rejected_by_reason == {"id_invalid": 1}
    assert report(found).values_rejected == {
        "genre": {"value_invalid": 1},
        "tags": {"value_invalid": 1},
        "year": {"number_unparsable": 1},
    }


def test_lines_that_are_no_json_are_rejects_with_their_text(prepare: Prepare) -> None:
    path = prepare.root / "features.json"
    path.write_text('{"id": "a", "tags": ["x"]}\n{"id": "b", "tags": [\n{"tags": ["x"]}\n')
    groups = {"tags": {"kind": "categories", "min_count": 1}}
    found = prepare.sources(table={"format": "json", "path": str(path), "groups": groups})
    assert features(found) == [("a", "tags", "x", 1.0)]
    assert report(found).rejected_by_reason == {"id_missing": 1, "malformed_line": 1}
    key = "features.items.table"
    assert rejects(prepare, found) == [
        (key, "id_missing", None, None, None, None),
        (key, "malformed_line", None, None, None, '{"id": "b", "tags": ['),
    ]


def test_numbers_are_ranges_at_quantiles_or_at_given_edges(prepare: Prepare) -> None:
    years = [1900, 1950, 1990, 1995, 2000, 2001, 2002, 2003, "x", "1e999", "", "NaN"]
    text = "id,year\n" + "".join(f"i{n},{year}\n" for n, year in enumerate(years))
    found = prepare.csv(text, {"year": {"kind": "number", "ranges": 2, "min_count": 1}})
    assert found.manifest.items is not None
    assert found.manifest.items.groups["year"].edges == [1997.5]
    assert [row[1:] for row in values(found)] == [
        ("1997.5 and above", "1997.5 and above", 4),
        ("below 1997.5", "below 1997.5", 4),
    ]
    assert report(found).values_rejected == {
        "year": {"number_not_finite": 1, "number_unparsable": 1}
    }
    edges = {"kind": "number", "edges": [1950, 2001], "min_count": 1}
    found = prepare.csv(text, {"year": edges})
    assert {row[0]: row[2] for row in features(found)} == {
        "i0": "below 1950",
        **dict.fromkeys(("i1", "i2", "i3", "i4"), "1950 to 2001"),
        **dict.fromkeys(("i5", "i6", "i7"), "2001 and above"),
    }


def test_names_of_ranges_tell_all_numbers_apart() -> None:
    assert range_names([0.1, 1234567, 1e20]) == [
        "below 0.1",
        "0.1 to 1234567",
        "1234567 to 1e+20",
        "1e+20 and above",
    ]


@pytest.mark.parametrize(
    ("group", "value", "name"),
    [
        ("genre", " Film  Noir ", "genre=film noir"),
        ("genre", "1990.0", "genre=1990"),
        ("age", "30", "age=30 to 45.5"),
        ("age", "45.4", "age=30 to 45.5"),
        ("age", "-1e3", "age=below 30"),
        ("age", "1e9", "age=45.5 and above"),
        ("age", "Below 30", "age=below 30"),
        ("age", "nan", "age=nan"),
    ],
)
def test_what_a_person_types_is_called_as_in_the_tables(group: str, value: str, name: str) -> None:
    assert feature_name(group, value, {"age": [30.0, 45.5]}) == name


def test_rows_that_cannot_be_used_are_rejects_with_a_reason(prepare: Prepare) -> None:
    text = "id,genre\n1,x\n,x\nzz,x\n3,y,more\nid,genre\n99999999999,x\n2,x\n2,X\n"
    found = prepare.csv(text, {"genre": {}}, types=IdTypes("int", "int"))
    assert features(found) == [(1, "genre", "x", 1.0), (2, "genre", "x", 1.0)]
    assert report(found).rows_read == 8
    assert report(found).rows_accepted == 3
    assert report(found).rejected_by_reason == {
        "id_invalid": 2,
        "header_line": 1,
        "id_missing": 1,
        "malformed_line": 1,
    }
    assert found.manifest.items is not None
    assert found.manifest.items.repeated_rows == 1
    key = "features.items.table"
    assert rejects(prepare, found) == [
        (key, "header_line", "id", None, None, None),
        (key, "id_invalid", "99999999999", None, None, None),
        (key, "id_invalid", "zz", None, None, None),
        (key, "id_missing", None, None, None, None),
        (key, "malformed_line", "3", None, None, "3,y,more"),
    ]


def test_rows_of_the_same_id_are_put_together_with_the_largest_weight(prepare: Prepare) -> None:
    rows = [("a", {"x": 1.0}), ("a", {"x": 3.0, "y": 1.0}), ("a", {"X": 2.0})]
    groups = {"tags": {"kind": "weighted", "min_count": 1}}
    found = prepare.rows(rows, "id string, tags map<string,double>", groups)
    assert features(found) == [("a", "tags", "x", 3.0), ("a", "tags", "y", 1.0)]


def test_conditions_and_queries_choose_and_shape_the_rows(prepare: Prepare) -> None:
    text = "id,title\na,Heat (1995)\nb,Ran (1985)\nc,Casino (1995)\n"
    query = r"select id, regexp_extract(title, '[(]([0-9]+)[)]$', 1) as year from input"
    groups = {"year": {"min_count": 1}}
    found = prepare.csv(text, groups, query=query, where="id != 'b'")
    assert features(found) == [("a", "year", "1995", 1.0), ("c", "year", "1995", 1.0)]
    assert report(found).rows_read == 2


def test_numbers_as_categories_have_no_point_where_they_are_whole(prepare: Prepare) -> None:
    rows = [("a", 12345678.0, [0.5, -0.0]), ("b", float("nan"), [float("nan")]), ("c", None, None)]
    one: dict[str, Any] = {"min_count": 1}
    groups = {"code": one, "shares": {"kind": "categories", **one}}
    found = prepare.rows(rows, "id string, code double, shares array<double>", groups)
    assert features(found) == [
        ("a", "code", "12345678", 1.0),
        ("a", "shares", "0", 1.0),
        ("a", "shares", "0.5", 1.0),
    ]


def test_quotes_are_looked_at_in_rows_that_a_condition_leaves_out(prepare: Prepare) -> None:
    text = 'id,genre\na,x\nb,"y\nc,x\n'
    options = {"header": True, "multiLine": True}
    with pytest.raises(InputError, match=r"features\.items\.table: a quote does not close"):
        prepare.csv(text, {"genre": {"min_count": 1}}, options=options, where="id = 'a'")


def test_several_tables_describe_the_same_items(prepare: Prepare) -> None:
    (prepare.root / "one.csv").write_text("id,genre\na,x\nb,x\n")
    (prepare.root / "two.csv").write_text("sku,tag\nb,p\nc,p\n")
    read = {"options": {"header": True}}
    found = prepare.sources(
        one={**read, "path": str(prepare.root / "one.csv"), "groups": {"genre": {}}},
        two={**read, "path": str(prepare.root / "two.csv"), "id": "sku", "groups": {"tag": {}}},
    )
    assert features(found) == [
        ("a", "genre", "x", 1.0),
        ("b", "genre", "x", 1.0),
        ("b", "tag", "p", 1.0),
        ("c", "tag", "p", 1.0),
    ]
    assert found.manifest.items is not None
    assert {name: group.source for name, group in found.manifest.items.groups.items()} == {
        "genre": "one",
        "tag": "two",
    }


def test_no_result_depends_on_the_order_or_the_partitions_of_rows(prepare: Prepare) -> None:
    chance = random.Random(1)
    rows = [
        (f"i{chance.randrange(30)}", chance.choice(["A", "a", "B b", "b  B", None]), year, weights)
        for year, weights in (
            (float(chance.randrange(1950, 2020)), {chance.choice("pqr"): chance.random()})
            for _ in range(200)
        )
    ]
    schema = "id string, genre string, year double, tags map<string,double>"
    groups = {
        "genre": {"missing": True},
        "year": {"kind": "number", "ranges": 4},
        "tags": {"kind": "weighted"},
    }
    found = []
    for partitions in (1, 2, 7):
        chance.shuffle(rows)
        path = str(prepare.root / f"p{partitions}")
        frame = prepare.spark.createDataFrame(rows, schema).repartition(partitions)
        frame.write.parquet(path)
        source = {"format": "parquet", "path": path, "groups": groups}
        prepared = prepare.sources(table=source)
        assert prepared.manifest.items is not None
        reports = prepared.manifest.items.groups
        found.append((features(prepared), values(prepared), reports))
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]) > 100


def test_a_retry_takes_up_the_same_data_and_nothing_else(prepare: Prepare) -> None:
    text = "id,genre\na,x\nb,x\n"
    path = prepare.root / "same.csv"
    path.write_text(text)
    source = {"path": str(path), "options": {"header": True}, "groups": {"genre": {}}}
    first = prepare.sources(run_id="r", table=source)
    again = prepare.sources(run_id="r", table=source)
    assert again.manifest == first.manifest
    path.write_text(text + "c,x\n")
    other = prepare.sources(run_id="r", table=source)
    assert other.manifest.features_id != first.manifest.features_id
    assert len(features(other)) == 3


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (
            {"genres": {}},
            InputError,
            r"groups\.genres\.column: .* no column 'genres'; did you mean",
        ),
        (
            {"tags": {}},
            ConfigError,
            r"groups\.tags: found a column of type array<string>, expected a",
        ),
        ({"genre": {"kind": "categories"}}, ConfigError, r"groups\.genre\.separator: .* set it"),
        ({"genre": {"kind": "weighted"}}, ConfigError, r"groups\.genre: .* expected a map"),
        ({"at": {"kind": "number"}}, ConfigError, r"groups\.at: .* type date, expected a number"),
        ({"raw": {}}, ConfigError, r"groups\.raw: .* type binary, expected a value"),
    ],
)
def test_columns_that_cannot_be_what_they_are_said_to_be_are_refused(
    spark: SparkSession, tmp_path: Path, groups: Any, error: type[Exception], message: str
) -> None:
    rows = [("a", "x", ["t"], dt.date(2026, 1, 1), b"x")]
    schema = "id string, genre string, tags array<string>, at date, raw binary"
    spark.createDataFrame(rows, schema).write.parquet(str(tmp_path / "t"))
    table = {"format": "parquet", "path": str(tmp_path / "t"), "groups": groups}
    config = configured(tmp_path / "out", features={"items": {"table": table}})
    with pytest.raises(error, match=message):
        look(spark, config, TEXT)


def test_a_table_most_of_whose_rows_cannot_be_used_stops_the_run_again_and_again(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("id,genre\n,x\n,y\na,x\n")
    table = {
        "path": str(tmp_path / "t.csv"),
        "options": {"header": True},
        "groups": {"genre": {"min_count": 1}},
    }
    config = configured(tmp_path / "out", features={"items": {"table": table}})
    store, run = Store(spark, config.root), new_run("r", RUN_DATE)
    found = states(spark, config)
    for _ in range(2):
        store.delete(store.uri("staging"))
        with pytest.raises(TooManyRejectsError, match=r"features\.items\.table: 2 of 3 rows"):
            prepare_features(spark, store, config, run, TEXT, store.uri("staging"), found)


def test_groups_say_what_does_not_fit_together() -> None:
    with pytest.raises(ValueError, match="separator: it is for the kind categories"):
        FeatureGroup(separator="|")
    with pytest.raises(ValueError, match="edges: expected numbers in ascending order"):
        FeatureGroup(kind="number", edges=[2.0, 1.0])
    with pytest.raises(ValueError, match="edges: they are for the kind number"):
        FeatureGroup(edges=[1.0])
