"""Items like an item and users like a user: known answers of the kernel and of whole jobs."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys.errors import ConfigError, InputError, OutputError
from recsys.kernel.neighbours import (
    Directions,
    candidates,
    nearest,
    neighbours,
    unit_vectors,
    with_direction,
)
from recsys.model.manifest import ModelManifest
from recsys.store.checksums import local_files
from recsys.store.manifest import MANIFEST
from tests.conftest import RUN_DATE, csv_input, model_folder, run_in, table, write_csv

Run = Callable[..., dict[str, Any]]

# Five items and four users with these embeddings; the model is trained and then given them.
# Seen from item 1 (1, 0): 2 and 5 lie in its direction, 3 across it, and 4 is zero.
ITEMS = [[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 0.0], [0.5, 0.0]]
USERS = [[1.0, 0.0], [1.0, 1.0], [-2.0, 0.0], [0.0, 0.0]]
ACROSS = np.float32(np.sqrt(0.5))


@pytest.fixture(scope="module")
def trained(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Make a model of the embeddings above, once; give the root and the model's id."""
    folder = tmp_path_factory.mktemp("trained")
    rows = [[u, i, 5, 1] for u in range(1, 5) for i in range(1, 6)]
    numbers = {"user": "int", "item": "int"}
    source = csv_input(write_csv(folder / "ratings.csv", rows), id_types=numbers)
    small = {"no_components": 2}
    manifest = run_in(spark, folder / "out", "train", run_id="t", input=source, training=small)
    given(model_folder(manifest), "items", ITEMS)
    given(model_folder(manifest), "users", USERS)
    return folder / "out", manifest["model_id"]


@pytest.fixture
def job(run: Run, trained: tuple[Path, str], tmp_path: Path) -> Run:
    """Look for neighbours with that model, in a copy of the root."""
    root, model_id = trained
    shutil.copytree(root, tmp_path / "out")
    numbers = itertools.count()

    def execute(kind: str, **sections: Any) -> dict[str, Any]:
        return run(f"similar-{kind}", run_id=f"s{next(numbers)}", model_id=model_id, **sections)

    return execute


def given(folder: Path, kind: str, embeddings: list[list[float]]) -> None:
    """Give a model other embeddings, with a manifest that knows of it."""
    manifest = ModelManifest.from_json((folder / MANIFEST).read_bytes())
    (file,) = (folder / kind).glob("*.parquet")
    stored = pq.read_table(file)
    column = pa.array(embeddings, pa.list_(pa.float32()))
    place = stored.schema.get_field_index("embedding")
    pq.write_table(stored.set_column(place, "embedding", column), file)
    for crc in (folder / kind).glob(".*.crc"):
        crc.unlink()
    written = manifest.table(kind).model_copy(update={"files": local_files(folder / kind)})
    tables = manifest.tables.model_copy(update={kind: written})
    changed = manifest.model_copy(update={"tables": tables})
    (folder / MANIFEST).write_bytes(changed.to_json())


def listed(tmp_path: Path, text: str, column: str, **more: Any) -> dict[str, Any]:
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    return {"path": str(path), "options": {"header": True}, "column": column, **more}


def lists(manifest: dict[str, Any], kind: str) -> dict[int, list[tuple[int, float]]]:
    rows = table(manifest, f"similar_{kind}").sort_values([f"{kind[:-1]}_id", "rank"])
    return {
        key: list(zip(group["neighbour_id"], group["cosine"], strict=True))
        for key, group in rows.groupby(f"{kind[:-1]}_id")
    }


def test_all_items_get_their_nearest_but_themselves_and_what_has_no_direction(job: Run) -> None:
    manifest = job("items", similar={"k": 3})
    assert lists(manifest, "items") == {
        1: [(2, 1.0), (5, 1.0), (3, 0.0)],  # of equal cosines the smaller id comes first
        2: [(1, 1.0), (5, 1.0), (3, 0.0)],
        3: [(1, 0.0), (2, 0.0), (5, 0.0)],
        5: [(1, 1.0), (2, 1.0), (3, 0.0)],
    }
    output, found = manifest["outputs"]["similar_items"], manifest["similar"]
    counts = ("requested", "repeated", "invalid", "unknown", "without_direction", "answered")
    assert [found[name] for name in counts] == [5, 0, 0, 0, 1, 4]
    assert output["rows"] == 12
    place = Path(output["uri"].removeprefix("file:"))
    assert place.parts[-3:] == ("similar_items", "2026-11-24", "s0")
    assert output["files"] == [file.model_dump() for file in local_files(place)]
    file = place / output["files"][0]["path"]
    assert [(field.name, str(field.type)) for field in pq.read_schema(file)] == [
        ("run_date", "date32[day]"),
        ("item_id", "int32"),
        ("rank", "int32"),
        ("neighbour_id", "int32"),
        ("cosine", "float"),
        ("model_id", "string"),
        ("run_id", "string"),
        ("generated_at", "timestamp[us, tz=UTC]"),
    ]
    rows = table(manifest, "similar_items")
    assert set(rows["model_id"]) == {manifest["model_id"]}
    assert set(rows["run_id"]) == {"s0"}
    assert set(rows["run_date"]) == {RUN_DATE}


def test_users_are_compared_by_their_own_embeddings(job: Run) -> None:
    manifest = job("users", similar={"k": 9})
    assert lists(manifest, "users") == {
        1: [(2, ACROSS), (3, -1.0)],
        2: [(1, ACROSS), (3, -ACROSS)],
        3: [(2, -ACROSS), (1, -1.0)],
    }
    assert manifest["similar"]["neighbours"] == 2
    assert list(table(manifest, "similar_users").columns[:5]) == [
        "run_date",
        "user_id",
        "rank",
        "neighbour_id",
        "cosine",
    ]


def test_a_list_is_answered_once_an_id_and_loses_none_silently(
    job: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "sku,n\n3,1\n3,2\n03,3\n77,4\n,5\nabc,6\n4,7\n1,8\n2,-1\n"
    chosen = listed(tmp_path, text, "sku", where="n > 0")
    manifest = job("items", similar={"k": 1, "items": chosen})
    assert lists(manifest, "items") == {1: [(2, 1.0)], 3: [(1, 0.0)]}
    found = manifest["similar"]
    counts = {
        "requested": 8,
        "repeated": 2,
        "invalid": 2,
        "unknown": 1,
        "without_direction": 1,
        "answered": 2,
    }
    assert {name: found[name] for name in counts} == counts
    assert sum(counts.values()) == 2 * counts["requested"]
    assert (
        "of 8 items asked for, some get no neighbours: 2 invalid, 1 unknown, 1 without direction"
        in caplog.messages
    )


def test_a_list_of_which_nothing_can_be_answered(job: Run, tmp_path: Path) -> None:
    unknown = listed(tmp_path, "user_id\n77\nx\n", "user_id")
    complaint = r"similar\.users: none of the 2 users asked for is in the model \(1 are no ids"
    with pytest.raises(InputError, match=complaint):
        job("users", similar={"users": unknown})
    zero = listed(tmp_path, "user_id\n4\n", "user_id")
    manifest = job("users", similar={"users": zero})
    assert manifest["outputs"]["similar_users"]["rows"] == 0
    assert manifest["similar"]["without_direction"] == 1
    with pytest.raises(
        InputError, match=r"similar\.users\.column: similar\.users has no column 'usr'"
    ):
        job("users", similar={"users": {**zero, "column": "usr"}})
    with pytest.raises(ConfigError, match=r"similar\.items\.format is csv: set similar\.items"):
        job("items", similar={"items": {}})
    job("users", similar={"items": {}, "k": 1})  # nobody asked for items


def test_the_number_of_parts_changes_no_bit(job: Run) -> None:
    one = job("items", similar={"k": 3})
    four = job("items", similar={"k": 3}, scoring={"users_per_file": 1})
    assert len(one["outputs"]["similar_items"]["files"]) == 1
    assert len(four["outputs"]["similar_items"]["files"]) == 4
    columns = ["item_id", "rank", "neighbour_id", "cosine"]
    frames = [table(m, "similar_items").sort_values(columns[:2])[columns] for m in (one, four)]
    pd.testing.assert_frame_equal(
        *(frame.reset_index(drop=True) for frame in frames), check_exact=True
    )


def expected(vectors: np.ndarray, row: int, k: int) -> list[tuple[int, float]]:
    """Sort everything by (cosine descending, row), each cosine summed in the kernel's order."""
    found = []
    for other in np.flatnonzero(vectors.any(axis=1)):
        total = 0.0
        for a, b in zip(vectors[row].tolist(), vectors[other].tolist(), strict=True):
            total += a * b
        found.append((-min(1.0, max(-1.0, float(np.float32(total)))), int(other)))
    return [(other, -cosine) for cosine, other in sorted(found) if other != row][:k]


@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_neighbours_are_those_of_a_full_sort_also_among_many_equal_directions(k: int) -> None:
    random = np.random.default_rng(3)
    # Multiples of twelve directions, nearly. Six components of +-1 have a unit vector that is
    # rounded up, so that some of its cosines round to more than 1 and some to 1.
    base = np.concatenate([random.choice([-1, 1], (6, 6)), random.normal(size=(6, 6))])
    raw = base[random.integers(0, 12, 90)] * random.choice([-3, 0.1, 1, 7], 90)[:, None]
    raw *= 1 + 1e-7 * random.choice([0, 0, 1], raw.shape)
    raw[[5, 60]] = 0
    vectors = unit_vectors(raw.astype(np.float32))
    matrix = candidates(vectors)
    rows = np.flatnonzero(with_direction(vectors)).astype(np.int32)
    products = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    assert (products.astype(np.float32) > 1).any()  # rounding does leave [-1, 1]
    ranked = nearest(matrix, vectors[rows], k, rows)
    for n, row in enumerate(rows):
        part = slice(ranked.indptr[n], ranked.indptr[n + 1])
        found = list(zip(ranked.items[part].tolist(), ranked.scores[part].tolist(), strict=True))
        assert found == expected(vectors, int(row), k)


def test_ids_of_another_type_than_the_published_ones_are_refused_before_anything_is_compared(
    run: Run, job: Run, tmp_path: Path
) -> None:
    job("items", similar={"k": 1})
    rows = [[f"u{u}", f"i{i}", 5, 1] for u in range(4) for i in range(5)]
    source = csv_input(write_csv(tmp_path / "text.csv", rows))
    text = run("train", run_id="text", input=source)["model_id"]
    with pytest.raises(OutputError, match=r"column item_id was int and is string, .* with run s0"):
        run("similar-items", run_id="refused", model_id=text)
    record = (tmp_path / "out/runs/refused/manifest.json").read_text()
    assert '"timings_seconds": {}' in record
    assert run("similar-users", run_id="users", model_id=text)["state"] == "complete"


def test_unit_vectors_of_any_finite_length_and_batches_of_any_size() -> None:
    raw = np.array([[3, 4], [3e38, 0], [1e-45, 0], [0, 0]], np.float32)
    np.testing.assert_array_equal(
        unit_vectors(raw), np.array([[0.6, 0.8], [1, 0], [1, 0], [0, 0]], np.float32)
    )

    class Broadcast:
        value = Directions("b", np.array(["a", "b", "c", "d"], object), unit_vectors(raw))

    batches = iter([pd.DataFrame({"row": [2, 0]}), pd.DataFrame({"row": []})])
    first, second = neighbours(batches, Broadcast(), 1)
    assert first.to_numpy().tolist() == [
        ["c", 1, "b", 1.0],
        ["a", 1, "b", float(np.float32(0.6))],
    ]
    assert list(second.columns) == ["id", "rank", "neighbour_id", "cosine"]
    assert second.empty
