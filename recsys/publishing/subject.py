"""What is judged before readers see it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame

from recsys.columns import IdTypes
from recsys.config.sections import Items
from recsys.model.manifest import TrainedModel
from recsys.publishing import checks

# With fewer items to choose from, for each place in a list, any two lists have much in common.
_LEAST_CHOICE = 10


@dataclass(frozen=True)
class ColdItems:
    """The items of a model that have nothing but features.

    Attributes:
        ids: `item_id`, of all of them.
        n: how many may be recommended: none where `features.cold_items` excludes them.
        places: how many places at the end of each list are for them; 0: none in particular.
    """

    ids: DataFrame
    n: int
    places: int


@dataclass(frozen=True)
class Subject:
    """What is judged.

    Attributes:
        lists: `user_id`, `rank`, `item_id`, `score` and `source`, as staged and read back.
        statuses: STATUS_SCHEMA or OUTCOMES_SCHEMA, as staged and read back.
        asked: REQUESTS_SCHEMA.
        pairs: interactions whose items count as seen: the model's and, where given, newer ones.
        items: what may be recommended.
        k: length of a list.
        exclude_seen: whether what was seen had to be left out.
        n_catalogue: how many items of the model may be recommended.
        id_types: of the ids.
        model: where the model comes from.
        cold: its items that have nothing but features; None without any.
    """

    lists: DataFrame
    statuses: DataFrame
    asked: DataFrame
    pairs: Sequence[DataFrame]
    items: Items
    k: int
    exclude_seen: bool
    n_catalogue: int
    id_types: IdTypes
    model: TrainedModel
    cold: ColdItems | None = None

    @property
    def n_cold(self) -> int:
        """How many items that have nothing but features may be recommended."""
        return 0 if self.cold is None else self.cold.n

    @property
    def places(self) -> int:
        """How many places at the end of each list are for these; 0: none in particular."""
        return 0 if self.cold is None or not self.cold.n else self.cold.places

    @property
    def apart(self) -> DataFrame | None:
        """The ids of these items where they have places of their own; None where not."""
        return self.cold.ids if self.cold is not None and self.places else None

    @property
    def seen(self) -> DataFrame:
        """What users have seen: `user_id` and `item_id`."""
        return checks.seen_pairs(self.pairs, self.asked, self.id_types.item)

    @property
    def too_little_choice(self) -> str | None:
        """Why there is too little choice to compare lists; None where there is enough.

        Places that are reserved for items with nothing but features are not compared.
        """
        if self.items.candidates is not None:
            return "items.candidates decides"
        k, n = self.k, self.n_catalogue
        if self.places:
            k, n = k - self.places, n - self.n_cold
        if n < _LEAST_CHOICE * k:
            return f"lists of {k} from {n} items leave little choice"
        return None

    @property
    def cold_choice(self) -> bool:
        """Whether items that have nothing but features say something by being in many lists.

        With places of their own and few of them, they are in all lists.
        """
        return self.n_cold >= _LEAST_CHOICE * self.places


@dataclass(frozen=True)
class Previous:
    """What readers see now.

    Attributes:
        run_id: whose it is.
        lists: as in Subject.
        model: where its model comes from.
    """

    run_id: str
    lists: DataFrame
    model: TrainedModel
