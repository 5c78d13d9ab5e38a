"""Hold pairs out, train on the rest, and measure the lists beside popularity."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from recsys.columns import (
    EVALUATED_SCHEMA,
    FOLD,
    METRICS_SCHEMA,
    SPLIT_SCHEMA,
    TEST_USERS_SCHEMA,
    USER_METRICS_SCHEMA,
    names,
)
from recsys.config.configuration import digest
from recsys.evaluate import held_out, report, results, splits
from recsys.evaluate.manifest import ALL, EvaluationCounts, Metric, SplitCounts
from recsys.flows.describe import features_report
from recsys.flows.execution import Job
from recsys.flows.manifest import EvaluatedTraining, Outcome, OutputTable
from recsys.flows.samples import holders, sample_report, users_of
from recsys.flows.train import (
    early_stopping_report,
    input_tables,
    learn,
    negatives_report,
    origin,
)
from recsys.ingest.features import prepare_features, states
from recsys.ingest.preparation import Prepared, prepare
from recsys.kernel.evaluate import Traits
from recsys.kernel.fold_in import FoldIn, plain_mean
from recsys.learn.all_pairs import Counts
from recsys.learn.assembly import fold_in_of, likes_of
from recsys.learn.described_fit import DescribedFit
from recsys.learn.matrices import Interactions
from recsys.model.learned import Learned
from recsys.model.tables import Model, write_model, written_model
from recsys.runtime.signals import interruptible
from recsys.score import ranking
from recsys.store.tables import parsed


def evaluate(job: Job) -> Outcome:
    """Train on a part of the pairs, measure the lists on the rest, and publish the metrics."""
    config, run, settings = job.config, job.run, job.config.evaluation
    with run.step("prepare") as step:
        prepared = prepare(job.spark, job.store, config, run, job.staging)
        step.rows = prepared.manifest.counts.rows_read
    with run.step("split") as step:
        parts, split = _split(job, prepared)
        step.rows = prepared.manifest.counts.pairs
    trained = _train(job, prepared, parts)
    with run.step("evaluate") as step:
        rows, counts = _evaluate(job, trained, parts, split)
        step.rows = counts.users_evaluated
    with run.step("estimate") as step:
        step.rows = counts.users_evaluated
        values = results.collect_values(job.spark, rows, config.memory.max_share)
        covered = results.coverage(rows, trained.model.manifest.n_items)
        found = interruptible(lambda: results.results(values, covered, settings))
    with run.step("publish"):
        outputs = _publish(job, prepared, rows, found)
    return Outcome(
        counts=prepared.manifest.counts,
        sample=trained.training.sample,
        evaluation=counts,
        training=trained.training,
        metrics=[metric for metric in found if metric.segment == ALL],
        report=report.lines(found),
        outputs=outputs,
    )


@dataclass(frozen=True)
class _Trained:
    """A model that is only evaluated: it is staged, and goes with the staging directory."""

    model: Model
    histories: DataFrame
    traits: Traits
    training: EvaluatedTraining


def _split(job: Job, prepared: Prepared) -> tuple[DataFrame, SplitCounts]:
    settings = job.config.evaluation.split
    schema = prepared.manifest.id_types.fill(SPLIT_SCHEMA)
    place = f"{job.staging}/split"
    job.store.write_table(splits.split(prepared.pairs, settings), place, schema)
    parts = job.store.read_table(place, schema)
    return parts, splits.counts(parts, settings)


def _train(job: Job, prepared: Prepared, parts: DataFrame) -> _Trained:
    config, run = job.config, job.run
    types = prepared.manifest.id_types
    with run.step("features"):
        found = states(job.spark, config)
        described = prepare_features(job.spark, job.store, config, run, types, job.staging, found)
    train = parts.where(F.col(FOLD) == splits.TRAIN).drop(FOLD)
    interactions, made = learn(job, train, described)
    fitted, described_by = made.fitted, features_report(config, described, made)
    sample = sample_report(interactions.sample)
    with run.step("write model") as step:
        # Workers keep items by this name.
        made_of = [config.fingerprint(), run.run_id, run.started_at.isoformat()]
        name = f"evaluated-{digest(made_of)[:16]}"
        fold_in = _fold_in(interactions, made, config.training.seed)
        everyone = holders(job, train, interactions)
        # Without those who have nothing but features: a split holds pairs out, not items.
        learned = Learned.of(
            interactions,
            made.made.embeddings,
            fold_in,
            types,
            user_features=made.users,
            item_features=made.items,
            cold=False,
            positives=None if everyone is None else everyone.liked,
        )
        step.rows = learned.rows
        place = f"{job.staging}/{name}"
        manifest = write_model(
            job.store,
            job.scratch,
            place,
            learned,
            parts.where(F.col(FOLD) != splits.TEST),
            origin(job, name, prepared, interactions, made).model_copy(
                update={"features": described_by, "sample": sample}
            ),
            rows_per_file=config.scoring.users_per_file,
        )
    model = written_model(job.store, place, learned, manifest)
    return _Trained(
        model,
        held_out.lengths_of_histories(job.scratch, interactions, train),
        _traits(job, interactions, train, everyone),
        EvaluatedTraining(
            epochs=fitted.epochs,
            early_stopping=early_stopping_report(config, fitted.report),
            negatives=negatives_report(fitted),
            features=None if described_by is None else described_by.trials,
            sample=sample,
        ),
    )


def _fold_in(interactions: Interactions, made: DescribedFit, seed: int) -> FoldIn:
    """Return the map for users whom a sample has left out."""
    if interactions.sample is not None:
        return fold_in_of(made.made, likes_of(interactions.labels), seed)[0]
    # Every user who is evaluated was trained, so the map is not used, but it has to fit.
    width = made.made.first.item_embeddings.shape[1]
    return replace(plain_mean(width), second=made.made.second)


def _traits(
    job: Job, interactions: Interactions, train: DataFrame, everyone: Counts | None
) -> Traits:
    """Describe the items by who has them: the users of the sample and those it left out.

    `everyone`: what `holders` returned.
    """
    labels = interactions.labels
    mine = np.bincount(labels.col, minlength=labels.shape[1])
    return held_out.item_traits(
        mine if everyone is None else everyone.pairs, users_of(job, train, interactions)
    )


def _evaluate(
    job: Job, trained: _Trained, parts: DataFrame, split: SplitCounts
) -> tuple[DataFrame, EvaluationCounts]:
    """Write down who is tested on what, and then the metrics of each user."""
    store, config, model = job.store, job.config, trained.model
    cores = job.spark.sparkContext.defaultParallelism
    tasks = ranking.n_tasks(split.users_in_test, config.scoring.users_per_file, cores)
    users = held_out.users_to_test(
        job.spark, parts, model, trained.histories, config.evaluation.segment
    )
    place, schema = f"{job.staging}/test_users", model.id_types.fill(TEST_USERS_SCHEMA)
    store.write_table(ranking.number_parts(users, tasks), place, schema)
    staged = store.read_table(place, schema)
    counts = held_out.counts(staged, split)
    rows = held_out.evaluated(
        job.spark, model, trained.traits, staged, config.evaluation, tasks=tasks
    )
    place, schema = f"{job.staging}/evaluated", model.id_types.fill(EVALUATED_SCHEMA)
    store.write_table(rows, place, schema)
    return store.read_table(place, schema), counts


def _publish(
    job: Job, prepared: Prepared, rows: DataFrame, found: list[Metric]
) -> dict[str, OutputTable]:
    """Publish both tables by one rename, and say where everything is."""
    store, staged, about = job.store, f"{job.staging}/evaluation", prepared.manifest
    place = store.uri("evaluations", job.run.run_id)
    users_schema = about.id_types.fill(USER_METRICS_SCHEMA)
    columns = to_arrow_schema(parsed(METRICS_SCHEMA))
    lines = pa.Table.from_pylist([metric.model_dump() for metric in found], columns)
    metrics = job.scratch.frame(lines, METRICS_SCHEMA)
    written = {
        "metrics": store.write_table(metrics.coalesce(1), f"{staged}/metrics", METRICS_SCHEMA),
        "users": store.write_table(
            rows.select(*names(users_schema)), f"{staged}/users", users_schema
        ),
    }
    store.publish(staged, place)
    counts = about.counts
    tables = input_tables(job, about.interactions_id, counts.pairs, counts.rows_rejected)
    for name, table in written.items():
        tables[name] = OutputTable(uri=f"{place}/{name}", rows=table.rows, files=table.files)
    return tables
