"""Let a training go on from an earlier one, whose users and items may be others.

Users and items are matched by their ids. Who is gone is left out, and who is new begins as LightFM
begins. All others keep their embeddings, and the sums that set the sizes of their steps: with small
steps a few epochs move what the new pairs have to say, and do not undo what was learned.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.config.sections import Training
from recsys.errors import TrainingError
from recsys.learn.assembly import Recipe
from recsys.learn.fold_in_candidates import Candidate
from recsys.learn.known_users import Known
from recsys.learn.matrices import Interactions
from recsys.learn.state import Parameters, State, untrained

_TRAINED_MOST = 0.5  # of a known user's vector


@dataclass(frozen=True)
class Kept:
    """What was kept of a training.

    Attributes:
        user_ids, item_ids: Arrow arrays; the rows of the parameters.
        state: what LightFM needs to go on.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    state: State


@dataclass(frozen=True)
class Matched:
    """How many users or items were found again.

    Attributes:
        known: of the earlier training, and in this one.
        new: in this one alone.
        gone: in the earlier one alone.
    """

    known: int
    new: int
    gone: int


@dataclass(frozen=True)
class WarmStart:
    """Where a training begins.

    Attributes:
        state: of all users and items of this training.
        users, items: how many were found again.
    """

    state: State
    users: Matched
    items: Matched


def begin(kept: Kept, interactions: Interactions, settings: Training) -> WarmStart:
    """Match an earlier training with what is to be learned from.

    The average of the epochs begins anew with the first of these epochs: the old one would hold on
    to what the pairs said that were there before, for as many epochs as it looks back.

    Args:
        kept: of the earlier training.
        interactions: what is learned from.
        settings: of this training.

    Raises:
        TrainingError: nobody, or nothing, is found again.
    """
    old = kept.state
    # New numbers, so that the order of pairs is that of an uninterrupted training.
    random = np.random.RandomState([settings.seed, old.epochs])
    users, found_users = _match(kept.user_ids, interactions.user_ids, old.users, settings, random)
    items, found_items = _match(kept.item_ids, interactions.item_ids, old.items, settings, random)
    for name, found in (("user", found_users), ("item", found_items)):
        if not found.known:
            raise TrainingError(
                f"none of the {found.gone:,} {name}s of the model to go on from is in the pairs, "
                f"which have {found.new:,} others; check input.columns, or train from nothing"
            )
    averaged = 0 if settings.epochs_from else old.averaged  # without an epoch nothing begins
    state = replace(old, users=users, items=items, averaged=averaged)
    return WarmStart(state, found_users, found_items)


def recipe(before: Recipe, chosen: Candidate, epochs: int) -> Recipe:
    """Say how a model is put together whose training went on.

    A few epochs move the users' embeddings more than the items', and what folds users in does not
    overfit. So at most half of a known user is what was trained, and the rest is folded in, by the
    map that served them before, or else that for new users.

    Args:
        before: how the model was put together that the training went on from.
        chosen: its map for new users.
        epochs: for how many epochs the training went on; without any, nothing changes.
    """
    if not epochs:
        return before
    known = Known(min(before.known.share, _TRAINED_MOST), before.known.map or chosen)
    return replace(before, known=known)


def _match(
    old_ids: pa.Array,
    ids: pa.Array,
    old: Parameters,
    settings: Training,
    random: np.random.RandomState,
) -> tuple[Parameters, Matched]:
    rows: NDArray[np.int64] = (
        pc.index_in(ids, value_set=old_ids).fill_null(-1).to_numpy().astype(np.int64)
    )
    new = int(np.count_nonzero(rows < 0))
    known = len(rows) - new
    fresh = untrained(new, settings.no_components, settings.learning_schedule, random)
    return old.matched(rows, fresh), Matched(known, new, len(old_ids) - known)
