"""The lists of a kept version made again, for some users, from what it was made of."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import ITEM, RANK, SCORE, SOURCE, USER
from recsys.config.stored_ids import check_stored_id
from recsys.flows.lists_again import Inputs
from recsys.ingest.local_pairs import ARROW, read_local_pairs
from recsys.model.listing import MODELS, check_known
from recsys.model.whole import WholeModel
from recsys.publishing.lookup import Kept
from recsys.publishing.versions import RECOMMENDATIONS
from recsys.score.histories import find_histories
from recsys.score.replay import Rules, Situation

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


def situation(
    kept: Kept, users: pa.Array, inputs: Inputs, *, likes_of_all: bool = False
) -> Situation:
    """Return what the lists of some users were made of.

    Args:
        kept: the version.
        users: their ids, each once.
        inputs: reads what the configuration names, as it is now.
        likes_of_all: also find what users like whom the model was trained on; it is what another
            model would fold them in from.

    Raises:
        ModelError: the model or its interactions are not there any more, or damaged.
        InputError, ConfigError: a list that the configuration names cannot be read.
    """
    files, config = kept.files, kept.config
    check_known(files, kept.manifest.model_id, "the version's model")
    folder = files.path(files.uri(MODELS, kept.manifest.model_id))
    model = WholeModel.load(folder, users)
    rules = Rules.of(config)
    newer = config.scoring.interactions
    everyone = newer is not None or rules.fold_in == "all" or likes_of_all
    wanted = np.full(len(users), True) if everyone else ~model.users.trained
    pairs = None
    if wanted.any():
        pairs = read_local_pairs(_interactions(kept, model), users.filter(pa.array(wanted)))
    given = inputs.likes(config, model.manifest.id_types)
    histories = find_histories(model, users, pairs, wanted, model.manifest.pair_rules, given)
    return Situation(
        users, model, rules, inputs.filters(config, model.manifest.id_types), histories
    )


def _interactions(kept: Kept, model: WholeModel) -> Path:
    name = kept.config.scoring.interactions or model.manifest.interactions_id
    check_stored_id(name, key="scoring.interactions", expected="the id of interactions")
    return kept.files.path(kept.files.uri("interactions", name))


def published_list(kept: Kept, user: object) -> PublishedList:
    """Return what is published of one user; empty where there is nothing."""
    kind = ARROW[kept.manifest.schemas[RECOMMENDATIONS][USER]]
    rows = kept.read(RECOMMENDATIONS, LIST_COLUMNS, pa.array([user], kind)).sort_by(RANK)
    scores = rows.column(SCORE).to_numpy(zero_copy_only=False).astype(np.float32)
    return PublishedList(rows.column(ITEM).to_pylist(), scores, rows.column(SOURCE).to_pylist())


def row_of(ids: pa.Array, wanted: object) -> int:
    """Return the row of an id; -1 where there is none."""
    return int(pc.index(ids, pa.scalar(wanted, ids.type)).as_py())
