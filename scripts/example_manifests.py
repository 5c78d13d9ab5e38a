"""Manifests of versions that no run has made: for tests and tortures that need no Spark."""

from collections.abc import Mapping, Sequence
from typing import Any

from recsys.ingest.manifest import InputState, PreparationCounts
from recsys.model.assembly_report import AssemblyReport, KnownUsersReport
from recsys.model.manifest import EarlyStoppingReport, PairRules, TrainedModel, TrainingReport
from recsys.publishing.manifest import (
    PublishedLists,
    PublishedStatuses,
    VersionManifest,
    VersionTables,
)
from recsys.publishing.versions import RECOMMENDATIONS, STATUS, TITLES, Unit
from recsys.store.manifest import File, WrittenTable

NO_ROWS = PreparationCounts(
    rows_read=0,
    rows_accepted=0,
    rows_with_rating_zero=0,
    rows_rejected=0,
    rejected_by_reason={},
    pairs=0,
    conflicting_pairs=0,
    positive_pairs=0,
    negative_pairs=0,
    pairs_left_out=0,
    users=0,
    items=0,
    users_in_training=0,
    items_in_training=0,
)
REPORT = EarlyStoppingReport(
    metric="ndcg@10",
    share=0.2,
    users=10,
    kept_epoch=1,
    ndcg=0.2,
    popularity_ndcg=0.1,
    epochs=[1],
    curve=[0.2],
    seconds=0.0,
    refit_epochs=1,
)


def trained_model(
    model_id: str = "m1",
    *,
    early_stopping: EarlyStoppingReport | None = None,
    counts: PreparationCounts = NO_ROWS,
    **rules: Any,
) -> TrainedModel:
    """Say where a model comes from."""
    plain = {
        "deduplication": "last",
        "rating_threshold": None,
        "weighed_by_rating": False,
        "min_user_interactions": 1,
        "min_item_interactions": 1,
    }
    return TrainedModel(
        model_id=model_id,
        interactions_id="i1",
        input=InputState(format="csv", name="x.csv", files=0, bytes=0, sha256_of_listing=""),
        counts=counts,
        pair_rules=PairRules(**{**plain, **rules}),
        training=TrainingReport(
            loss="warp",
            epochs=1,
            item_alpha=1e-5,
            user_alpha=1e-5,
            early_stopping=early_stopping,
            negatives=None,
            weightless_pairs=0,
            mean_user_bias=0.0,
            assembly=AssemblyReport(
                lightfm_components=8,
                known_users=KnownUsersReport(share_of_trained=1.0, map=None, bias_scale=1.0),
                second_view=None,
                compared={},
            ),
            threads=1,
            openmp=True,
            seed=42,
        ),
    )


def version_manifest(
    unit: Unit,
    run_id: str,
    files: Mapping[str, tuple[int, Sequence[File]]],
    schemas: Mapping[str, Mapping[str, str]],
    *,
    model_id: str = "m1",
    configuration: Mapping[str, Any] | None = None,
) -> VersionManifest:
    """Make the manifest of a version.

    Args:
        unit: what it is of.
        run_id: whose it is.
        files: rows and files of each table.
        schemas: types by column name, of each table.
        model_id: of its model.
        configuration: whatever is to stand there.
    """
    (n_rows, lists), (n_statuses, statuses) = files[RECOMMENDATIONS], files[STATUS]
    titles = None
    if TITLES in files:
        titles = WrittenTable(rows=files[TITLES][0], files=list(files[TITLES][1]))
    return VersionManifest(
        schema_version=VersionManifest.SCHEMA_VERSION,
        run_id=run_id,
        run_date=unit.run_date.isoformat(),
        cohort=unit.cohort,
        model_id=model_id,
        model=trained_model(model_id),
        configuration=dict(configuration or {}),
        configuration_hash="",
        versions={},
        schemas={name: dict(schema) for name, schema in schemas.items()},
        tables=VersionTables(
            recommendations=PublishedLists(rows=n_rows, files=list(lists)),
            status=PublishedStatuses(rows=n_statuses, files=list(statuses), by_status={}),
            titles=titles,
        ),
        compared_with=None,
        gates=[],
        forced=False,
        failed_gates=[],
    )
