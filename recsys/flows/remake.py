"""The lists of a kept version made again, for some users, from what it was made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.columns import ITEM, RANK, SCORE, SOURCE, USER, IdTypes
from recsys.config.stored_ids import check_stored_id
from recsys.errors import ConfigError
from recsys.flows.lists_again import Inputs
from recsys.ingest.local_pairs import ARROW, read_local_pairs
from recsys.model.arrays import Vectors, load_items
from recsys.model.listing import MODELS, check_known
from recsys.model.whole import WholeModel
from recsys.publishing.lookup import Kept
from recsys.publishing.versions import RECOMMENDATIONS
from recsys.score.histories import find_histories, left_out_of
from recsys.score.local_ids import LocalIds
from recsys.score.replay import Rules, Situation
from recsys.store.files import require_local

LIST_COLUMNS = [USER, RANK, ITEM, SCORE, SOURCE]


@dataclass(frozen=True)
class PublishedList:
    """What is published of one user, by rank.

    Attributes:
        items: ids.
        scores: float32.
        sources: how each row was made.
    """

    items: list[object]
    scores: np.ndarray
    sources: list[str]


def load_model(kept: Kept, users: pa.Array) -> WholeModel:
    """Load the model of a version, with some users.

    Raises:
        ModelError: it is not there any more, or damaged.
    """
    return WholeModel.load(_model_folder(kept), users)


def _model_folder(kept: Kept) -> Path:
    check_known(kept.files, kept.manifest.model_id, "the version's model")
    return require_local(kept.files.uri(MODELS, kept.manifest.model_id), "root")


def situation(
    kept: Kept,
    users: pa.Array,
    inputs: Inputs,
    *,
    model: WholeModel | None = None,
    likes_of: NDArray[np.bool_] | None = None,
) -> Situation:
    """Return what the lists of some users were made of.

    Args:
        kept: the version.
        users: their ids, each once.
        inputs: reads what the configuration names, as it is now.
        model: what `load_model` returned of these users; None: it is loaded.
        likes_of: `(n_users,)` of whom to find also what they like, although the model was trained
            on them; it is what another model would fold them in from. None: of nobody.

    Raises:
        ModelError: the model or its interactions are not there any more, or damaged.
        InputError, ConfigError: a list that the configuration names cannot be read.
    """
    config = kept.config
    model = model or load_model(kept, users)
    rules = Rules.of(config)
    everyone = config.scoring.interactions is not None or rules.fold_in == "all"
    wanted = np.full(len(users), True) if everyone else ~model.users.trained
    if likes_of is not None:
        wanted = wanted | likes_of
    pairs = left_out = None
    if wanted.any():
        whose = users.filter(pa.array(wanted))
        pairs = read_local_pairs(interactions_folder(kept), whose)
        if model.manifest.sample is not None:
            trained_on = pairs
            if config.scoring.interactions is not None:
                others = users.filter(pa.array(~model.users.trained))
                trained_on = read_local_pairs(_trained_on(kept, model), others)
                pairs = _together(pairs, trained_on)
            left_out = left_out_of(model, users, trained_on)
    given = inputs.likes(config, model.manifest.id_types)
    histories = find_histories(model, users, pairs, wanted, model.manifest.pair_rules, given)
    filters = inputs.filters(config, model.manifest.id_types)
    return Situation(users, model, rules, filters, histories, left_out)


def _trained_on(kept: Kept, model: WholeModel) -> Path:
    name = model.manifest.interactions_id
    return require_local(kept.files.uri("interactions", name), "root")


def _together(newer: pa.Table, older: pa.Table) -> pa.Table:
    """Return two tables of pairs as one, as `recsys.score.cohorts.together` does."""
    only_older = older.join(newer.select([USER, ITEM]), [USER, ITEM], join_type="left anti")
    # The join no longer knows which columns have no nulls.
    both = [newer, only_older.select(newer.column_names)]
    return pa.concat_tables(both, promote_options="default")


def interactions_folder(kept: Kept) -> Path:
    """Return where the interactions of a version are: those of its model, or newer ones."""
    name = kept.manifest.interactions_id
    check_stored_id(name, key="scoring.interactions", expected="the id of interactions")
    return require_local(kept.files.uri("interactions", name), "root")


def model_items(kept: Kept) -> Vectors:
    """Load the items of the model of a version.

    Raises:
        ModelError: the model is not there any more, or damaged.
    """
    return load_items(_model_folder(kept))


def id_types(kept: Kept) -> IdTypes:
    """Return the types of the ids of a version."""
    schema = kept.manifest.schemas[RECOMMENDATIONS]
    return IdTypes(schema[USER], schema[ITEM])


def published_list(kept: Kept, user: object) -> PublishedList:
    """Return what is published of one user; empty where there is nothing."""
    kind = ARROW[kept.manifest.schemas[RECOMMENDATIONS][USER]]
    rows = kept.read(RECOMMENDATIONS, LIST_COLUMNS, pa.array([user], kind)).sort_by(RANK)
    scores = rows.column(SCORE).to_numpy(zero_copy_only=False).astype(np.float32)
    return PublishedList(rows.column(ITEM).to_pylist(), scores, rows.column(SOURCE).to_pylist())


def typed(given: str, kind: str, option: str) -> Any:
    """Return an id of the type that a version has.

    Raises:
        ConfigError: it is none.
    """
    found = LocalIds(pa.nulls(0, ARROW[kind])).convert(given)
    if found is None:
        raise ConfigError(f"{option}: found {given[:60]!r}, expected an id of the type {kind}")
    return found


def row_of(ids: pa.Array, wanted: object) -> int:
    """Return the row of an id; -1 where there is none."""
    return int(pc.index(ids, pa.scalar(wanted, ids.type)).as_py())
