"""What a model's manifest says of its features."""

from recsys.config.configuration import Config
from recsys.ingest.feature_manifest import DescribedReport
from recsys.ingest.features import ITEMS, USERS, PreparedFeatures, sources_of
from recsys.learn.cold import LearnedFeatures
from recsys.learn.described import group_weights
from recsys.learn.described_fit import DescribedFit
from recsys.model.features_report import DescribedCounts, FeaturesReport, FeatureTrials


def features_report(
    config: Config, prepared: PreparedFeatures | None, made: DescribedFit
) -> FeaturesReport | None:
    """Say what features a model has; None for none."""
    if prepared is None:
        return None

    def counts(
        found: LearnedFeatures | None, about: DescribedReport | None, kind: str
    ) -> DescribedCounts | None:
        if found is None or about is None:
            return None
        return DescribedCounts(
            way=found.way,
            inside=made.groups[kind],
            weights=group_weights(sources_of(config, kind)),
            edges={name: group.edges for name, group in about.groups.items() if group.edges},
            normalised=found.normalised,
            identity=found.identity,
            features=len(found.features),
            untrained_features=found.untrained_features,
            identities=found.identities,
            cold=len(found.cold_ids),
            undescribed=found.undescribed,
            explained=found.explained,
        )

    return FeaturesReport(
        features_id=prepared.manifest.features_id,
        items=counts(made.items, prepared.manifest.items, ITEMS),
        users=counts(made.users, prepared.manifest.users, USERS),
        trials=None if made.trial is None else FeatureTrials.model_validate(made.trial),
    )
