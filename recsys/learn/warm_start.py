"""Let a training go on from an earlier one, whose users and items may be others.

Users and items are matched by their ids. Who is gone is left out, and who is new begins as LightFM
begins. All others keep their embeddings, and the sums that set the sizes of their steps: with small
steps a few epochs move what the new pairs have to say, and do not undo what was learned.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import Training
from recsys.errors import TrainingError
from recsys.kernel.fold_in import FoldIn, fold_in
from recsys.learn.embeddings import Embeddings
from recsys.learn.matrices import Interactions
from recsys.learn.state import Parameters, State, untrained


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


def fold_in_known(
    embeddings: Embeddings, fitted: FoldIn, liked: sp.csr_matrix
) -> tuple[Embeddings, FoldIn]:
    """Return the model with its own users folded in, as anyone else is.

    After a few epochs the items are as good as after a whole training, and the users are not: their
    embeddings move most with each epoch, and begin to repeat what the users had already. Items get
    their biases scaled as the map wants it, so that all users are ranked alike.

    Args:
        embeddings: of users and items.
        fitted: the map that was fitted to them.
        liked: `(n_users, n_items)` CSR: the positive pairs. Whoever has none keeps their vector.
    """
    indptr, items = liked.indptr.astype(np.int64), liked.indices.astype(np.int32)
    vectors = fold_in(fitted, embeddings.item_embeddings, indptr, items)
    some = np.diff(indptr) > 0
    typical = np.float32(embeddings.user_biases.mean(dtype=np.float64))
    made = replace(
        embeddings,
        user_embeddings=np.where(some[:, None], vectors, embeddings.user_embeddings),
        user_biases=np.where(some, typical, embeddings.user_biases),
        item_biases=embeddings.item_biases * np.float32(fitted.bias_scale),
    )
    return made, replace(fitted, bias_scale=1.0)


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
