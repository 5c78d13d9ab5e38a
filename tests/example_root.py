"""A root with runs that nothing has made: two nights, evaluations, a run that a gate held back.

Written with pyarrow alone, so that tests of what people look at need no Spark.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from example_manifests import NO_ROWS, trained_model, version_manifest

from recsys.columns import (
    INTERACTIONS_SCHEMA,
    METRICS_SCHEMA,
    REJECTS_SCHEMA,
    TITLES_SCHEMA,
    IdTypes,
)
from recsys.config.configuration import Config
from recsys.errors import GateError
from recsys.evaluate.manifest import EvaluationCounts, Metric
from recsys.flows.manifest import EvaluatedTraining, Outcome, OutputTable, SparkSettings
from recsys.flows.record import RunRecord
from recsys.ingest.manifest import InputState, InteractionsManifest, InteractionsTables
from recsys.kernel.metrics import ACCURACY
from recsys.model.manifest import EarlyStoppingReport, ModelManifest, ModelTables
from recsys.publishing.manifest import Verdict
from recsys.publishing.pointer import Pointers
from recsys.publishing.publish import REQUESTS, Staged, publish
from recsys.publishing.versions import RECOMMENDATIONS, STATUS, TITLES, Unit, columns
from recsys.runtime.run import Run
from recsys.store.files import STAGING
from recsys.store.manifest import File, WrittenTable
from recsys.store.posix import PosixFiles
from tests.publications import SCHEMAS, write_parts

HOSTILE = "<script>alert('title')</script> \"quoted\" & more"
USERS, ITEMS, K = 240, 300, 10
TITLES_OF = {
    "i000": HOSTILE,
    "i001": "Émile",
    **{f"i{n:03}": f"Film {n}" for n in range(2, ITEMS)},
}
TYPES = IdTypes(user="string", item="string")
DAYS = {"monday": dt.date(2026, 11, 23), "tuesday": dt.date(2026, 11, 24)}

_ARROW = {
    "date": pa.date32(),
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "tinyint": pa.int8(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
}


@dataclass(frozen=True)
class Example:
    """A root and what is in it.

    Attributes:
        root: its directory.
        config: a configuration for it, as a file.
        pairs: the users' items of tuesday, by user.
    """

    root: Path
    config: Path
    pairs: dict[str, list[str]]


def make_root(folder: Path) -> Example:
    """Write the root below a folder.

    The file that titles were once read from is not there any more: pages have the published ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root, names, config = folder / "output", folder / "names.csv", folder / "conf.yaml"
    config.write_text(
        f"root: {root}\nitems:\n  titles:\n    path: {names}\n    column: item_id\n"
        "    title: title\n    options: {header: true}\n"
    )
    plain = {
        "root": str(root),
        "input": {"format": "csv", "path": str(folder / "ratings.csv")},
        "items": {
            "titles": {
                "path": str(names),
                "column": "item_id",
                "title": "title",
                "options": {"header": True},
            }
        },
    }
    settings = Config.model_validate(plain)
    files = PosixFiles(root)
    done: dict[str, list[str]] = {}
    for night, (run_id, day) in enumerate(DAYS.items()):
        done = _night(files, settings, run_id, day, night)
    _night(files, settings, "wednesday", dt.date(2026, 11, 25), 2, failing=True)
    _evaluation(files, settings, "evaluated-before", 0)
    _evaluation(files, settings, "evaluated", 1)
    return Example(root, config, done)


def _night(
    files: PosixFiles,
    config: Config,
    run_id: str,
    day: dt.date,
    night: int,
    *,
    failing: bool = False,
) -> dict[str, list[str]]:
    run = Run(run_id, day, dt.datetime.combine(day, dt.time(3), dt.UTC))
    run.timings.update(preflight=0.4, prepare=3.5, collect=1.25, train=21.75, score=2.5, judge=1.0)
    record = _record(files, "run", run, config)
    record.begin()
    rng = np.random.default_rng(night)
    done = _pairs(files, run_id, rng)
    model = _model(files, config, run, night)
    unit = Unit(config.cohort.name, day)
    staged = _stage(files, config, unit, run_id, rng, model)
    found = [
        Verdict(gate="lists", state="passed", found=0, allowed="0 faults"),
        Verdict(gate="coverage", state="passed", found=0.41, allowed="at least 0.01"),
        Verdict(
            gate="top_item",
            state="failed" if failing else "passed",
            found=0.93 if failing else 0.31,
            allowed="at most 0.9 (gates.max_top_item)",
            reason=f"item i000 ({HOSTILE}) is in most lists" if failing else None,
        ),
        Verdict(gate="overlap", state="not applied", found=None, allowed="-", reason="nothing yet"),
    ]
    try:
        publish(files, Pointers(files), staged, lambda _: found, alive=lambda: None, force=False)
    except GateError as error:
        record.fail(str(error), 9)
        return done
    place = f"publications/{unit.cohort}/{day}/{run_id}"
    tables = {
        name: OutputTable(uri=files.uri(*f"{place}/{name}".split("/")), rows=rows)
        for name, rows in ((RECOMMENDATIONS, USERS * K), (STATUS, USERS + 1))
    }
    tables["interactions"] = OutputTable(
        uri=files.uri("interactions", f"{run_id}-i"), rows=model.counts.pairs
    )
    record.complete(
        Outcome(
            model_id=model.model_id,
            cohort=unit.cohort,
            counts=model.counts,
            by_status=staged.manifest.tables.status.by_status,
            outputs=tables,
            gates=found,
            forced=False,
        )
    )
    return done


def _record(files: PosixFiles, job: str, run: Run, config: Config) -> RunRecord:
    spark = SparkSettings(
        application_id="a",
        master="local[2]",
        driver_heap_bytes=2 * 2**30,
        default_parallelism=2,
        settings={},
    )
    return RunRecord(files, job, run, config, model_id=None, spark=spark, earlier=None)


def _likes(rng: np.random.Generator, user: int) -> list[int]:
    n = min(1 + user // 4, 60)
    weights = 1 / np.arange(1, ITEMS + 1)
    found = rng.choice(ITEMS, n, replace=False, p=weights / weights.sum())
    return sorted({0, *map(int, found)})  # everybody knows the one with the hostile title


def _pairs(files: PosixFiles, run_id: str, rng: np.random.Generator) -> dict[str, list[str]]:
    done = {f"u{user:03}": [f"i{n:03}" for n in _likes(rng, user)] for user in range(USERS)}
    rows = [(user, item) for user, items in done.items() for item in items]
    n, name = len(rows), f"{run_id}-i"
    when = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    pairs = _table(
        TYPES.fill(INTERACTIONS_SCHEMA),
        n,
        user_id=[user for user, _ in rows],
        item_id=[item for _, item in rows],
        rating=[float(5 - at % 3) for at in range(n)],
        timestamp=[when + dt.timedelta(minutes=at) for at in range(n)],
        label=[1 if at % 3 < 2 else -1 for at in range(n)],
        rows=[1] * n,
        conflicting=[False] * n,
    )
    rejects = _table(
        REJECTS_SCHEMA,
        3,
        reason=["rating_out_of_range", "rating_out_of_range", "user_missing"],
        user=["u001", "<b>bold</b>", None],
        item=["i001", "i002", "i003"],
        rating=["99", "-7", "4"],
        line=[None, None, ",i003,4"],
    )
    written = {}
    for folder, table in ((f"interactions/{name}/pairs", pairs), (f"rejects/{name}", rejects)):
        place = files.path(files.uri(*folder.split("/")))
        written[folder] = WrittenTable(rows=len(table), files=write_parts(place, table, 1))
    made = InteractionsManifest(
        schema_version=InteractionsManifest.SCHEMA_VERSION,
        interactions_id=name,
        run_id=run_id,
        id_types=TYPES,
        input=_input(),
        counts=_counts(done),
        timestamps=None,
        warnings=["ratings from u001 look like a robot's: <i>all the same</i>"],
        tables=InteractionsTables(
            pairs=written[f"interactions/{name}/pairs"], rejects=written[f"rejects/{name}"]
        ),
    )
    files.replace(files.uri("interactions", name, "manifest.json"), made.to_json())
    return done


def _input() -> InputState:
    return InputState(
        format="csv", name="ratings <today>.csv", files=1, bytes=123_456, sha256_of_listing=""
    )


def _counts(done: dict[str, list[str]]) -> Any:
    n = sum(map(len, done.values()))
    negative = n // 3
    return NO_ROWS.model_copy(
        update={
            "rows_read": n + 3,
            "rows_accepted": n,
            "rows_rejected": 3,
            "rejected_by_reason": {"rating_out_of_range": 2, "user_missing": 1},
            "pairs": n,
            "positive_pairs": n - negative,
            "negative_pairs": negative,
            "users": USERS,
            "items": ITEMS,
            "users_in_training": USERS,
            "items_in_training": ITEMS,
        }
    )


def _early(night: int) -> EarlyStoppingReport:
    curve = [0.08 + 0.09 * (1 - 0.7**epoch) + 0.004 * night for epoch in range(1, 13)]
    return EarlyStoppingReport(
        metric="ndcg@10",
        share=0.2,
        users=USERS,
        kept_epoch=12,
        ndcg=curve[-1],
        popularity_ndcg=0.11,
        epochs=list(range(1, 13)),
        curve=curve,
        seconds=1.0,
        refit_epochs=12,
    )


def _model(files: PosixFiles, config: Config, run: Run, night: int) -> ModelManifest:
    model_id = f"{run.run_id}-m"
    nothing = WrittenTable(rows=0, files=[])
    done = _read_counts(files, run.run_id)
    about = trained_model(model_id, early_stopping=_early(night), counts=done)
    made = ModelManifest(
        **{**dict(about), "interactions_id": f"{run.run_id}-i", "input": _input()},
        schema_version=ModelManifest.SCHEMA_VERSION,
        run_id=run.run_id,
        run_date=run.run_date.isoformat(),
        created_at=run.started_at.isoformat(),
        configuration=config.public(),
        configuration_hash=config.fingerprint(),
        fold_in=None,
        versions={},
        timings_seconds={},
        id_types=TYPES,
        n_users=USERS,
        n_items=ITEMS,
        no_components=16,
        tables=ModelTables(items=nothing, users=nothing, fold_in=nothing),
    )
    files.replace(files.uri("models", model_id, "manifest.json"), made.to_json())
    return made


def _read_counts(files: PosixFiles, run_id: str) -> Any:
    uri = files.uri("interactions", f"{run_id}-i", "manifest.json")
    return InteractionsManifest.from_json(files.read(uri)).counts


def _stage(
    files: PosixFiles,
    config: Config,
    unit: Unit,
    run_id: str,
    rng: np.random.Generator,
    model: ModelManifest,
) -> Staged:
    uri, users = files.uri(STAGING, run_id, "version"), [f"u{n:03}" for n in range(USERS)]
    weights = 1 / np.arange(1, ITEMS + 1) ** 0.7
    items = [
        f"i{n:03}"
        for _ in users
        for n in rng.choice(ITEMS, K, replace=False, p=weights / weights.sum())
    ]
    n = USERS * K
    same = {"run_date": unit.run_date, "cohort": unit.cohort, "run_id": run_id}
    lists = _table(
        SCHEMAS[RECOMMENDATIONS],
        n,
        **{name: [value] * n for name, value in same.items()},
        user_id=[user for user in users for _ in range(K)],
        rank=list(range(1, K + 1)) * USERS,
        item_id=items,
        score=[2.5 - 0.2 * (at % K) + 0.001 * (at // K) for at in range(n)],
        source=["model" if at // K < USERS - 20 else "fold_in" for at in range(n)],
        model_id=[model.model_id] * n,
        generated_at=[dt.datetime(2026, 11, 24, 3, tzinfo=dt.UTC)] * n,
    )
    status = _table(
        SCHEMAS[STATUS],
        USERS + 1,
        **{name: [value] * (USERS + 1) for name, value in same.items()},
        user_id=[*users, None],
        requested=[*users, "<nobody>"],
        times_requested=[1] * (USERS + 1),
        status=["scored"] * (USERS - 20) + ["folded_in"] * 20 + ["invalid_id"],
        n_items=[K] * USERS + [0],
    )
    titles = _table(
        TYPES.fill(TITLES_SCHEMA),
        ITEMS,
        **{name: [value] * ITEMS for name, value in same.items()},
        item_id=list(TITLES_OF),
        title=list(TITLES_OF.values()),
    )
    tables: dict[str, tuple[int, list[File]]] = {}
    for name, table in ((RECOMMENDATIONS, lists), (STATUS, status), (TITLES, titles)):
        tables[name] = (len(table), write_parts(files.path(f"{uri}/{name}"), table, 2))
    files.write(f"{uri}/{REQUESTS}/part-0.parquet", b"requests")
    by_status = {"scored": USERS - 20, "folded_in": 20, "invalid_id": 1}
    schemas = {**SCHEMAS, TITLES: columns(TYPES.fill(TITLES_SCHEMA))}
    manifest = version_manifest(unit, run_id, tables, schemas, model_id=model.model_id)
    served = manifest.tables.status.model_copy(update={"by_status": by_status})
    about = {name: getattr(model, name) for name in type(manifest.model).model_fields}
    manifest = manifest.model_copy(
        update={
            "tables": manifest.tables.model_copy(update={"status": served}),
            "configuration": config.public(),
            "configuration_hash": config.fingerprint(),
            "model": type(manifest.model)(**about),
        }
    )
    return Staged(unit, run_id, uri, manifest)


def _evaluation(files: PosixFiles, config: Config, run_id: str, at: int) -> None:
    run = Run(run_id, DAYS["tuesday"], dt.datetime(2026, 11, 24, 10 + at, tzinfo=dt.UTC))
    run.timings.update(prepare=3.0, split=1.0, train=20.0, evaluate=4.0, estimate=2.0)
    record = _record(files, "evaluate", run, config)
    found: list[Metric] = []
    segments = {"all": 1.0, "history 1-4": 0.4, "history 5-9": 0.8, "history 10-19": 1.1}
    for segment, scale in {**segments, "history 20-49": 1.3, "region <north>": 0.9}.items():
        for metric in (*ACCURACY, "novelty"):
            for model, base in (("model", 0.2 + 0.01 * at), ("popularity", 0.15)):
                found.append(_metric(model, segment, metric, base * scale))
            found.append(_metric("difference", segment, metric, (0.05 + 0.01 * at) * scale))
    place = files.uri("evaluations", run_id, "metrics")
    plain = [one.model_dump() for one in found]
    columns_ = {name: [row[name] for row in plain] for name in plain[0]}
    written = write_parts(files.path(place), _table(METRICS_SCHEMA, len(plain), **columns_), 1)
    counted = dict.fromkeys(EvaluationCounts.model_fields, 0)
    counted |= {"pairs_in_train": 3000, "pairs_in_test": 700, "relevant_pairs": 450}
    counted |= {"users": USERS, "users_evaluated": 200}
    record.complete(
        Outcome(
            counts=_read_counts(files, "tuesday"),
            evaluation=EvaluationCounts(**counted),
            training=EvaluatedTraining(
                epochs=12, early_stopping=_early(at), negatives=None, features=None
            ),
            metrics=[one for one in found if one.segment == "all"],
            report=["as text"],
            outputs={
                "interactions": OutputTable(uri=files.uri("interactions", "tuesday-i"), rows=3000),
                "metrics": OutputTable(uri=place, rows=len(plain), files=written),
            },
        )
    )


def _metric(model: str, segment: str, metric: str, value: float) -> Metric:
    return Metric(
        model=model,
        segment=segment,
        metric=metric,
        k=10,
        value=value,
        low=value - 0.02,
        high=value + 0.02,
        n_users=50,
    )


def _table(schema: str | dict[str, str], n: int, **values: list[Any]) -> pa.Table:
    kinds = columns(schema) if isinstance(schema, str) else schema
    return pa.table(
        {
            column: pa.array(values.get(column, [None] * n), _ARROW[kind])
            for column, kind in kinds.items()
        }
    )
