"""The project's configurations with features read what is in the files, as pandas finds it."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recsys.columns import IdTypes
from recsys.config.reading import load_config
from recsys.ingest.features import PreparedFeatures, prepare_features, states
from recsys.runtime.run import new_run
from recsys.store.tables import Store
from tests.conftest import ROOT, RUN_DATE, completejourney, model_folder, shared_file

pytestmark = [pytest.mark.usefixtures("compiled"), pytest.mark.long]

Read = Callable[..., PreparedFeatures]
Found = dict[str, dict[Any, set[str]]]  # by group and id


@pytest.fixture
def read(spark: SparkSession, tmp_path: Path) -> Read:
    def prepare(name: str, types: IdTypes, **paths: str) -> PreparedFeatures:
        given = [f"features.{place}.path={path}" for place, path in paths.items()]
        config = load_config(str(ROOT / f"conf/{name}-features.yaml"), given)
        store, run = Store(spark, str(tmp_path / "out")), new_run("r", RUN_DATE)
        staging, found = store.uri("staging"), states(spark, config)
        prepared = prepare_features(spark, store, config, run, types, staging, found)
        assert prepared is not None
        assert prepared.manifest.tables.rejects.rows == 0
        return prepared

    return prepare


def by_group(prepared: PreparedFeatures, kind: str = "items") -> Found:
    rows = prepared.rows[kind].toArrow().to_pandas()
    assert (rows["weight"] == 1).all()
    return {
        str(group): part.groupby("id")["value"].agg(set).to_dict()
        for group, part in rows.groupby("group")
    }


def frequent(said: pd.Series) -> dict[Any, set[str]]:
    """From lists of values by id: what at least two ids have, as values are compared."""
    values = said.explode().dropna().str.lower().str.replace(r"\s+", " ", regex=True).str.strip()
    one_each = values[values != ""].reset_index().drop_duplicates()
    one_each.columns = pd.Index(["id", "value"])
    counts = one_each["value"].value_counts()
    kept = one_each[one_each["value"].isin(counts.index[counts >= 2])]
    return kept.groupby("id")["value"].agg(set).to_dict()


def edges(prepared: PreparedFeatures, group: str) -> list[float]:
    assert prepared.manifest.items is not None
    found = prepared.manifest.items.groups[group].edges
    assert found is not None
    return found


def in_ranges(numbers: pd.Series, edges: list[float]) -> dict[Any, set[str]]:
    names = [f"{edge:.15g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(names)]
    labels = [f"below {names[0]}", *between, f"{names[-1]} and above"]
    bounds = [-float("inf"), *edges, float("inf")]
    found = pd.cut(numbers.dropna(), bounds, right=False, labels=labels)
    return {key: {str(value)} for key, value in found.items()}


def test_goodbooks_has_authors_language_series_and_year(read: Read) -> None:
    path = shared_file("goodbooks/books.csv")
    prepared = read("goodbooks", IdTypes("int", "int"), **{"items.books": path})
    books = pd.read_csv(path, dtype={"original_publication_year": str}).set_index("id")
    found = by_group(prepared)
    assert found.keys() == {"authors", "language", "series", "year"}
    assert found["authors"] == frequent(books["authors"].str.split(","))
    assert found["year"] == in_ranges(
        books["original_publication_year"].astype(float), edges(prepared, "year")
    )
    language = books["language_code"]
    assert found["language"] == frequent(language.mask(language.str[:2] == "en", "en"))
    assert found["series"][1] == {"the hunger games"}
    assert found["series"] == frequent(books["title"].str.extract(r"[(]([^()#]+?),? *#")[0])
    rated = pd.read_csv(shared_file("goodbooks/ratings.csv"), usecols=["book_id"])["book_id"]
    assert set(rated) == set(books.index)


def test_movietweetings_has_genres_and_year(read: Read) -> None:
    path = shared_file("movietweetings/movies.dat")
    prepared = read("movietweetings", IdTypes("string", "string"), **{"items.films": path})
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    films = pd.DataFrame([line.split("::") for line in lines]).set_index(0)
    found = by_group(prepared)
    assert found.keys() == {"genres", "year"}
    assert found["genres"]["0002844"] == {"crime", "drama"}
    assert found["genres"] == frequent(films[2].str.split("|"))
    years = films[1].map(lambda title: float(re.findall(r"\((\d{4})\)", title)[-1]))
    assert found["year"] == in_ranges(years, edges(prepared, "year"))
    assert len(found["year"]) == len(films)


def test_complete_journey_has_products_and_households(read: Read) -> None:
    paths = {
        "items.products": completejourney("products"),
        "users.households": completejourney("demographics"),
    }
    prepared = read("completejourney", IdTypes("bigint", "bigint"), **paths)
    products = pd.read_parquet(paths["items.products"]).set_index("product_id")
    found = by_group(prepared)
    for group, column in {
        "department": "department",
        "brand": "brand",
        "category": "product_category",
        "type": "product_type",
    }.items():
        assert found[group] == frequent(products[column])
    sizes = products["package_size"].dropna()
    for text, ounces, pieces in [
        ("16 OZ", "16 to 24", None),
        (".5 OZ", "below 2", None),
        ("5 LB", "64 to 128", None),
        ("2 L", "64 to 128", None),
        ("750 ML", "24 to 32", None),
        ("HALF GAL", None, None),
        ("12 CT", None, "12 to 24"),
        ("12 PK/12 OZ", "12 to 16", "12 to 24"),
        ("18 IN", None, None),
        ("CTN", None, None),
    ]:
        some = sizes.index[sizes == text]
        assert len(some)
        for group, value in {"ounces": ounces, "pieces": pieces}.items():
            expected = {None if value is None else frozenset({value})}
            assert {one and frozenset(one) for one in map(found[group].get, some)} == expected
    # Most sizes are one of both.
    assert len(found["ounces"].keys() | found["pieces"].keys()) > 0.94 * len(sizes)
    households = pd.read_parquet(paths["users.households"]).set_index("household_id")
    described = by_group(prepared, "users")
    for group, column in {
        "age": "age",
        "income": "income",
        "home": "home_ownership",
        "married": "marital_status",
        "size": "household_size",
        "composition": "household_comp",
        "kids": "kids_count",
    }.items():
        assert described.pop(group) == frequent(households[column])
    assert described == {}


MOVIES = '''movieId,title,genres
1,Toy Story (1995),Adventure|Animation|Children
2,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",Adventure|Drama
3,"""Great Performances"" Cats (1998)",Musical
4,Death Note: Desu nôto (2006{dash}2007),(no genres listed)
5,Babylon 5,Sci-Fi
6,"Millions Game, The (Das Millionenspiel)",Drama|Sci-Fi
7,Mona (1983)),(no genres listed)
8,2001: A Space Odyssey (1968) ,Adventure|Sci-Fi
9,Diplomatic Immunity (2009{dash} ),Comedy
10,Fawlty Towers (1975-1979),Comedy|Musical
'''


def test_movielens_has_genres_and_the_year_behind_the_title(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    movies, ratings = tmp_path / "movies.csv", tmp_path / "ratings.csv"
    movies.write_text(MOVIES.format(dash="\u2013"), encoding="utf-8")
    pairs = [f"{user},{(user + n) % 9 + 1},4.5,100" for user in range(1, 12) for n in range(5)]
    ratings.write_text("\n".join(["userId,movieId,rating,timestamp", *pairs]) + "\n")
    config = load_config(
        str(ROOT / "conf/movielens-features.yaml"),
        [
            f"input.path={ratings}",
            f"features.items.films.path={movies}",
            "features.items.films.groups.year.min_count=1",
            "features.items.films.groups.genres.min_count=1",
        ],
    )
    chosen = config.model_dump(exclude={"root", "spark", "training", "scoring", "gates"})
    manifest = run("train", **chosen)
    [place] = (tmp_path / "out/features").glob("*/items")
    rows = pd.read_parquet(place)
    genres = rows[rows["group"] == "genres"].groupby("id")["value"].agg(set).to_dict()
    assert genres == {
        1: {"adventure", "animation", "children"},
        2: {"adventure", "drama"},
        3: {"musical"},
        5: {"sci-fi"},
        6: {"drama", "sci-fi"},
        8: {"adventure", "sci-fi"},
        9: {"comedy"},
        10: {"comedy", "musical"},
    }
    # Ranges at the quantiles of 1968, 1975, 1983, 1995, 1995, 1998, 2006 and 2009.
    year = rows[rows["group"] == "year"].set_index("id")["value"]
    assert sorted(year.index) == [1, 2, 3, 4, 7, 8, 9, 10]
    assert year[1] == year[2]
    low = year.map(lambda name: 0.0 if "below" in name else float(name.split()[0]))
    assert list(low.sort_values().index) == [8, 10, 7, 1, 2, 3, 4, 9]
    # Nobody rated 10, which is in the model by its features.
    items = pd.read_parquet(model_folder(manifest) / "items")
    assert set(items["item_id"]) == set(range(1, 11))
    assert list(items.loc[~items["trained"], "item_id"]) == [10]
