"""The manifest of a model: `models/<model_id>/manifest.json`."""

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from recsys.columns import IdTypes
from recsys.errors import ModelError
from recsys.ingest.manifest import InputState, PreparationCounts
from recsys.model.assembly_report import AssemblyReport, MapRecord
from recsys.model.features_report import DescribedCounts, FeaturesReport
from recsys.model.sample_report import SampleReport
from recsys.store.manifest import MANIFEST, ManifestError, Part, SealedManifest, WrittenTable


class EarlyStoppingReport(Part):
    """How the epoch was chosen that the model was trained for."""

    metric: str
    """What was compared, such as `ndcg@10`."""
    share: float
    """Share of each item's positive pairs that was held out."""
    users: int
    """Users whose lists were judged."""
    kept_epoch: int
    """The best epoch."""
    ndcg: float
    """The metric at the kept epoch."""
    popularity_ndcg: float
    """The metric of the most popular items for the same users."""
    epochs: list[int]
    """Epochs at which lists were judged."""
    curve: list[float]
    """The metric at each of them."""
    start: str = "random"
    """What the embeddings began with: `random` or `spectral`."""
    training_seconds: list[float] = Field(default_factory=list)
    """Time that training had taken by each of these epochs, without the judging."""
    seconds: float
    """Time that judging took."""
    refit_epochs: int | None
    """Epochs of the second training, on all pairs; null where there was none."""


class NegativesReport(Part):
    """The negatives of the logistic loss."""

    in_data: int
    """Negative pairs in the data."""
    drawn_per_positive: int
    """Items that were drawn as negatives for each positive pair, in each epoch."""
    drawn_per_epoch: int
    """All of them together."""


class TrainingReport(Part):
    """How the model was trained."""

    loss: str
    """LightFM's loss."""
    epochs: int
    """Epochs that made the model."""
    item_alpha: float
    """L2 penalty on item embeddings."""
    user_alpha: float
    """L2 penalty on user embeddings."""
    early_stopping: EarlyStoppingReport | None
    """How the epoch was chosen; null without early stopping."""
    negatives: NegativesReport | None
    """For the logistic loss: what was learned from as negatives; null for other losses."""
    sample_share: float = 1.0
    """The share of the users that it was trained on (`training.sample_users`); 1: all."""
    weightless_pairs: int
    """Labelled pairs that were left out because their sample weight is 0."""
    mean_user_bias: float
    """Mean of the users' biases; it stands in for that of a folded-in user in a probability."""
    assembly: AssemblyReport
    """How the model was put together from what was trained."""
    threads: int
    """CPU threads."""
    openmp: bool
    """Whether LightFM was built with OpenMP."""
    seed: int
    """Seed of the training."""


class FoldInTrial(MapRecord):
    """A map that was tried, with its result."""

    round: int
    """1: all maps on half of the users. 2: the best on all of them."""
    ndcg: float
    """nDCG@10 on held-out users."""


class FoldInReport(Part):
    """How the map that folds in users was chosen."""

    held_out_users: int
    """Users on whom the maps were compared; 0 where there were too few."""
    chosen: MapRecord
    """The map that the model has."""
    reason: str
    """Why it was chosen."""
    ndcg: float | None = None
    """nDCG@10 of the chosen map."""
    plain_ndcg: float | None = None
    """nDCG@10 of the plain mean."""
    best: MapRecord | None = None
    """The map with the highest nDCG@10."""
    difference: float | None = None
    """Mean difference between the best map and the plain mean, paired over users."""
    standard_error: float | None = None
    """Standard error of this difference."""
    candidates: list[FoldInTrial]
    """All maps that were tried."""


class PairRules(Part):
    """How rows became pairs with labels; two models with other rules cannot be compared."""

    deduplication: str
    """`deduplication.policy`."""
    rating_threshold: float | None
    """`filters.rating_threshold`: ratings from here on are likes."""
    weighed_by_rating: bool
    """Whether `training.sample_weights.rating` is not `none`; a rating of 0 is no like then."""
    min_user_interactions: int
    """`filters.min_user_interactions`."""
    min_item_interactions: int
    """`filters.min_item_interactions`."""


class RefreshReport(Part):
    """What a refresh found. The numbers are those of positive pairs and of who is in them."""

    model_id: str
    """The model that was refreshed."""
    pairs: int
    """Positive pairs that users were folded in from."""
    users: int
    """Users who were folded in."""
    new_users: int
    """Those of them whom that model has not learned from."""
    users_left_out: int
    """Users who like nothing that the model has; they get popular items."""
    new_items: int
    """Items that have come in by their features."""
    waiting_items: int
    """Items of positive pairs that the model does not have, until the next training."""
    waiting_pairs: int
    """Pairs of those items."""
    second_view_share: float | None
    """How much LightFM counts beside a second view that was learned again; null where none was."""


class WarmStartReport(Part):
    """Where a training began that went on from another one."""

    model_id: str
    """The model that it went on from."""
    epochs_before: int
    """Epochs that model had been trained for, with those of the trainings before it."""
    users: int
    """Users of that model who are in this one."""
    new_users: int
    """Other users; they began as LightFM begins."""
    gone_users: int
    """Users of that model who are in no pair any more."""
    items: int
    """Items of that model that are in this one."""
    new_items: int
    """Other items."""
    gone_items: int
    """Items of that model that are in no pair any more."""


class ModelTables(Part):
    """The tables of a model."""

    items: WrittenTable
    """One row an item."""
    users: WrittenTable
    """One row a user."""
    fold_in: WrittenTable
    """One row: the map that folds in users."""
    item_features: WrittenTable | None = None
    """One row a feature of items; null without any."""
    user_features: WrittenTable | None = None
    """One row a feature of users; null without any."""
    item_state: WrittenTable | None = None
    """One row an item that was trained: what a training needs to go on from this one; null without
    `training.resumable`, and where LightFM has learned with features."""
    user_state: WrittenTable | None = None
    """The same of users."""
    training_state: WrittenTable | None = None
    """One row: the same of the training as a whole."""


class TrainedModel(Part):
    """Where a model comes from; a published version repeats this part."""

    model_id: str
    """Its id, which is the name of its directory."""
    interactions_id: str
    """The interactions that it was trained on."""
    input: InputState
    """What those were read from."""
    counts: PreparationCounts
    """How many rows and pairs there were."""
    pair_rules: PairRules
    """How rows became pairs with labels."""
    training: TrainingReport
    """How it was trained; of a refresh, how the training was of which it is one."""
    sample: SampleReport | None = None
    """Which users are in it; null where all are. All others are folded in where lists are made."""
    refresh_of: str | None = None
    """The model that was trained, where this one is a refresh of it; null for a training."""


class ModelOrigin(TrainedModel):
    """A model's manifest without what is only known once its tables are written."""

    run_id: str
    """The run that trained it."""
    run_date: str
    """The day that this run worked for, ISO 8601."""
    created_at: str
    """When this run began, ISO 8601 in UTC."""
    configuration: dict[str, Any]
    """The whole configuration, secrets redacted."""
    configuration_hash: str
    """SHA-256 of what has an effect on results."""
    fold_in: FoldInReport | None
    """How the fold-in map was chosen; null for the models of an evaluation. The map of a refresh
    has a bias scale of 1, since its items have their biases scaled already."""
    features: FeaturesReport | None = None
    """The features; null without any."""
    refresh: RefreshReport | None = None
    """What a refresh found; null for a training."""
    warm_start: WarmStartReport | None = None
    """Where the training began; null for one that began from nothing, and for a refresh."""
    versions: dict[str, str]
    """Versions of this package, Python and the libraries."""
    timings_seconds: dict[str, float]
    """Duration of each step until the model was written."""


class ModelManifest(ModelOrigin, SealedManifest):
    """What is said of a model."""

    SCHEMA_VERSION: ClassVar[int] = (
        4  # 3 had no `assembly`, 2 had features without `way`, 1 tables without `trained`
    )

    id_types: IdTypes
    """Types of the ids."""
    n_users: int
    """Users of the model, with those that have nothing but features."""
    n_items: int
    """Items of the model, likewise."""
    no_components: int
    """Size of the embeddings, with those of a second view."""
    tables: ModelTables
    """The files that were written."""

    def written(self) -> Iterator[tuple[str, WrittenTable]]:
        """Yield all tables that were written, with their names."""
        for name in ModelTables.model_fields:
            if getattr(self.tables, name) is not None:
                yield name, self.table(name)

    def described(self, kind: str) -> DescribedCounts | None:
        """Return what features did for `items` or `users`; None without any."""
        found: DescribedCounts | None = None
        if self.features is not None:
            found = getattr(self.features, kind)
        return found

    def table(self, name: str) -> WrittenTable:
        """Return what was written of a table, such as `items`."""
        written: WrittenTable = getattr(self.tables, name)
        return written


def read_model_manifest(content: bytes, directory: str) -> ModelManifest:
    """Read the manifest of a model.

    Args:
        content: of its file.
        directory: the name of the model's directory.

    Raises:
        ModelError: it is damaged, another model's, or was written by a newer version.
    """
    try:
        manifest = ModelManifest.from_json(content)
    except ManifestError as error:
        raise ModelError(
            f"model {directory}: {MANIFEST} cannot be used: {error}; train the model again"
        ) from error
    if manifest.model_id != directory:
        raise ModelError(
            f"model {directory} is damaged: its {MANIFEST} is that of model {manifest.model_id}; a "
            "model's directory cannot be renamed"
        )
    return manifest
