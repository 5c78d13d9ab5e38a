"""Collect what a model is trained on: all pairs, or those of a sample of the users."""

from dataclasses import asdict

from pyspark.sql import DataFrame

from recsys.columns import USER
from recsys.config.sections import Training
from recsys.flows.execution import Job
from recsys.ingest.features import PreparedFeatures
from recsys.learn.all_pairs import Counts, all_count, counts_of_items, with_weight, without_left_out
from recsys.learn.described import abouts, check_of_users, sizes, user_rows
from recsys.learn.features import Abouts
from recsys.learn.left_out import LeftOut
from recsys.learn.matrices import Interactions, collect
from recsys.learn.user_sample import Sample, Sampled
from recsys.model.sample_report import LeftOutReport, SampleReport


def collect_described(
    job: Job,
    pairs: DataFrame,
    described: PreparedFeatures | None,
    settings: Training,
    *,
    base: Sample | None = None,
    judging: bool = False,
) -> tuple[Interactions, Abouts]:
    """Collect labelled pairs, and what is known of their users and items.

    Args:
        job: the run.
        pairs: INTERACTIONS_SCHEMA.
        described: the features; None where there are none.
        settings: of the training.
        base: as `matrices.collect` takes it.
        judging: likewise.
    """
    with job.run.step("collect") as step:
        interactions = collect(
            job.spark,
            job.scratch,
            pairs,
            settings,
            job.run.run_date,
            max_share=job.config.memory.max_share,
            features=sizes(described),
            user_features=user_rows(described),
            base=base,
            judging=judging,
        )
        step.rows = interactions.labels.nnz
        if interactions.sample is not None:
            used = with_weight(pairs, interactions, settings.sample_weights, job.run.run_date)
            described = without_left_out(described, job.scratch, used, interactions)
        check = check_of_users(
            job.spark,
            described,
            interactions,
            settings,
            job.config.memory.max_share,
            advice=base is None,
        )
        return interactions, abouts(job.spark, described, interactions, job.config, check)


def holders(job: Job, pairs: DataFrame, interactions: Interactions) -> Counts | None:
    """Return how many of all users have each item, and like it; None where all are in training.

    Pairs without sample weight do not count, as they do not where all users are in the training.

    Args:
        job: the run.
        pairs: INTERACTIONS_SCHEMA.
        interactions: what was collected of them.
    """
    if interactions.sample is None:
        return None
    return counts_of_items(job.scratch, _used(job, pairs, interactions), interactions.item_ids)


def users_of(job: Job, pairs: DataFrame, interactions: Interactions) -> int:
    """Return how many users there are whose labelled pairs count, as `holders` has it.

    Who has nothing but pairs without sample weight is none of them.

    Args:
        job: the run.
        pairs: INTERACTIONS_SCHEMA.
        interactions: what was collected of them.
    """
    if interactions.sample is None:
        return len(interactions.user_ids)
    if all_count(job.config.training.sample_weights):
        return interactions.sample.everyone.users  # they were counted before the sample was chosen
    return _used(job, pairs, interactions).select(USER).distinct().count()


def _used(job: Job, pairs: DataFrame, interactions: Interactions) -> DataFrame:
    return with_weight(pairs, interactions, job.config.training.sample_weights, job.run.run_date)


def sample_report(found: Sampled | None, left_out: LeftOut | None = None) -> SampleReport | None:
    """Return which users were taken, typed; None where all were."""
    if found is None:
        return None
    taken, everyone = found.taken, found.everyone
    return SampleReport(
        share=found.share,
        item_minimum=found.least,
        users=taken.users,
        of_users=everyone.users,
        added_users=found.added,
        pairs=taken.pairs,
        of_pairs=everyone.pairs,
        items=taken.items,
        of_items=everyone.items,
        reason=found.reason,
        left_out=None if left_out is None else LeftOutReport(**asdict(left_out)),
    )
