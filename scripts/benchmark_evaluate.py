"""What it costs to measure lists where they are made: the evaluation's stage against scoring's.

Both take the same users of the same random model from staged tables to Parquet files, in turns.
Measuring makes two lists a user, the model's and the popular one, and writes numbers in place of
lists.
"""

from typing import Any

import click
import numpy as np
from benchmark_spark import TYPES, Stage, make_model, scratch, timed
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import HISTORY, ITEM, KNOWN, LABEL, TEST_USERS_SCHEMA, USER
from recsys.config.sections import Evaluation
from recsys.evaluate import held_out
from recsys.kernel import metrics
from recsys.kernel.evaluate import Traits
from recsys.score import ranking


@click.command(name="evaluate")
@click.option("--users", type=int, default=50_000, show_default=True)
@click.option("--items", type=int, default=68_000, show_default=True)
@click.option("--factors", type=int, default=32, show_default=True)
@click.option("--seen", type=int, default=100, show_default=True, help="Items a user has seen.")
@click.option("--relevant", type=int, default=10, show_default=True, help="Held out for each user.")
@click.option("--k", type=int, default=10, show_default=True)
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--auc-users", type=int, default=1_000, show_default=True)
@click.option("--master", default="local[2]", show_default=True)
@click.option("--driver-memory", default="4g", show_default=True)
def evaluate_command(
    users: int,
    items: int,
    factors: int,
    seen: int,
    relevant: int,
    k: int,
    rounds: int,
    auc_users: int,
    master: str,
    driver_memory: str,
) -> None:
    """Scoring with and without measuring."""
    with scratch(master, driver_memory) as (spark, store):
        click.echo("making the model ...", err=True)
        model, pairs = make_model(spark, store, users, items, factors, seen)
        stage = Stage(spark, store, model, pairs)
        holders = np.full(items, max(1, users * seen // items))
        traits = Traits(metrics.self_information(holders, users), metrics.most_popular(holders))
        parts = _parts(spark, pairs, users, items, relevant)

        def measuring(n_users: int, auc: bool) -> Any:
            place, tasks = store.uri("exam", str(n_users)), stage.tasks(n_users)
            schema = TYPES.fill(TEST_USERS_SCHEMA)
            lengths = F.lit(seen).alias(HISTORY), F.lit(True).alias(KNOWN)
            histories = model.users.select(USER, *lengths)
            tested = parts.where(F.col(USER) < n_users)
            exam = held_out.users_to_test(spark, tested, model, histories, None)
            store.write_table(ranking.number_parts(exam, tasks), place, schema)
            staged = store.read_table(place, schema)
            settings = Evaluation(k=[k], auc=auc)

            def run() -> None:
                rows = held_out.evaluated(spark, model, traits, staged, settings, tasks=tasks)
                rows.write.mode("overwrite").parquet(store.uri("measured"))

            return run

        measure = measuring(users, False)
        stage(users, k)  # warm-up, and the requests
        measure()
        times: dict[str, list[float]] = {"score": [], "measure": []}
        for _ in range(rounds):
            times["score"].append(timed(lambda: stage(users, k)))
            times["measure"].append(timed(measure))
        scored, measured = (float(np.median(times[name])) for name in ("score", "measure"))
        click.echo(f"{users:,} users, {items:,} items x {factors}, k={k}, {seen} seen")
        click.echo(f"score              {scored / users * 1e6:10.1f} us a user {scored:8.2f} s")
        click.echo(
            f"score and measure  {measured / users * 1e6:10.1f} us a user {measured:8.2f} s"
            f"   {measured / scored:.2f} times"
        )
        whole = timed(measuring(auc_users, True))
        click.echo(f"whole catalogue    {whole / auc_users * 1e6:10.1f} us a user {whole:8.2f} s")


def _parts(
    spark: SparkSession, pairs: DataFrame, n_users: int, n_items: int, n_relevant: int
) -> DataFrame:
    """The pairs as train, and as many others of each user as test (SPLIT_SCHEMA)."""
    train = pairs.withColumn("fold", F.lit("train"))
    held_out = (
        spark.range(n_users)
        .select(
            F.col("id").cast("int").alias(USER),
            F.explode(F.lit(list(range(n_relevant)))).alias("n"),
        )
        .select(USER, F.pmod(F.hash(USER, "n"), F.lit(n_items)).alias(ITEM))
        .distinct()
        .join(pairs.select(USER, ITEM), on=[USER, ITEM], how="left_anti")
    )
    others = [name for name in train.columns if name not in (USER, ITEM, LABEL, "fold")]
    nothing = {name: F.lit(None).cast(train.schema[name].dataType) for name in others}
    test = held_out.withColumns(nothing).withColumns(
        {LABEL: F.lit(1).cast("tinyint"), "fold": F.lit("test")}
    )
    return train.unionByName(test)
