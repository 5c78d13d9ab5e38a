"""The sections of the configuration, typed and frozen, each key with its description.

`conf/base.yaml` and the reference are made from them (`recsys.config.reference`).
Each section says where its own values contradict one another; `recsys.config.requirements` says
what each command needs.
"""

from recsys.config.sections.evaluate import SPLITS_BY_TIME, Evaluation, Split, UserSegments
from recsys.config.sections.features import FeatureGroup, Features, FeatureSource
from recsys.config.sections.ingest import (
    POLICIES,
    POLICIES_BY_TIME,
    Columns,
    Deduplication,
    Filters,
    Input,
    InputIdTypes,
    RowChecks,
)
from recsys.config.sections.learn import (
    RANKING_LOSSES,
    EarlyStopping,
    Member,
    Memory,
    SampleWeights,
    Training,
)
from recsys.config.sections.monitoring import Monitoring
from recsys.config.sections.publishing import Gates, Iceberg, Publishing, Report
from recsys.config.sections.score import (
    CandidateList,
    Cohort,
    IdList,
    ItemList,
    Items,
    Scoring,
    Similar,
    SimilarFeatures,
    Titles,
    UserIds,
    UserList,
)
from recsys.config.sections.tuning import Tuning, TuningRanges
from recsys.config.sections.types import (
    COHORT_PATTERN,
    IN_WORDS,
    ROOT_PATTERN,
    RUN_ID_PATTERN,
    STORED_ID_PATTERN,
    ContradictionError,
    IdType,
    Options,
    Place,
    QueriedSource,
    Section,
    Source,
)

__all__ = [
    "COHORT_PATTERN",
    "IN_WORDS",
    "POLICIES",
    "POLICIES_BY_TIME",
    "RANKING_LOSSES",
    "ROOT_PATTERN",
    "RUN_ID_PATTERN",
    "SPLITS_BY_TIME",
    "STORED_ID_PATTERN",
    "CandidateList",
    "Cohort",
    "Columns",
    "ContradictionError",
    "Deduplication",
    "EarlyStopping",
    "Evaluation",
    "FeatureGroup",
    "FeatureSource",
    "Features",
    "Filters",
    "Gates",
    "Iceberg",
    "IdList",
    "IdType",
    "Input",
    "InputIdTypes",
    "ItemList",
    "Items",
    "Member",
    "Memory",
    "Monitoring",
    "Options",
    "Place",
    "Publishing",
    "QueriedSource",
    "Report",
    "RowChecks",
    "SampleWeights",
    "Scoring",
    "Section",
    "Similar",
    "SimilarFeatures",
    "Source",
    "Split",
    "Titles",
    "Training",
    "Tuning",
    "TuningRanges",
    "UserIds",
    "UserList",
    "UserSegments",
]
