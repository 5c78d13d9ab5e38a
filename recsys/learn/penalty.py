"""How strong the penalty on embeddings is where the configuration leaves it to the data.

LightFM shrinks all embeddings at each step, and a WARP epoch has about as many steps as there are
positive pairs. So what a penalty does in an epoch grows with the number of pairs, and a number that
suits one data set ruins another. An embedding is moved by the pairs of its own user or item alone,
and the more of them there are, the more penalty it bears.

With learning rates of 0.03 and 0.04 the best strength of an epoch, the penalty times the pairs,
was looked for on validation parts of real and made-up data sets, with 4 to 228 pairs a user and 2
to 400 pairs an item. It was between 20 and 120, more where users and items have more pairs.
`_by_pairs` is within a third of it. See docs/explanation/training.md.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from recsys.config.sections import Training

# The strength of an epoch with one pair a user and an item, and how it grows with these.
_STRENGTH, _BY_USER, _BY_ITEM = 12.0, 1 / 4, 1 / 6
_STRONGEST = 70.0  # with 97, 5,000,000 pairs took half as many epochs more to lists as good
# Other losses do worse with it: bpr and logistic on MovieLens 100K.
_OF_WARP, _OTHERWISE = ("warp", "warp-kos"), 1e-5


class Penalties(NamedTuple):
    """The L2 penalties on item and user embeddings, as LightFM takes them."""

    item_alpha: float
    user_alpha: float


def penalties(settings: Training, labels: sp.coo_matrix) -> Penalties:
    """Return the penalties to train with.

    Args:
        settings: where a penalty is `auto`, it is chosen here.
        labels: `(n_users, n_items)` COO, what is trained on.
    """
    chosen = _by_pairs(labels) if settings.loss in _OF_WARP else _OTHERWISE
    items, users = settings.item_alpha, settings.user_alpha
    return Penalties(chosen if items == "auto" else items, chosen if users == "auto" else users)


def of_part(settings: Training, part: sp.coo_matrix, labels: sp.coo_matrix) -> Training:
    """Return the settings to train on a part of the pairs with.

    With `warp` and `warp-kos` a penalty that is a number is meant for all pairs. An epoch of fewer
    of them shrinks embeddings less, so the number changes as `auto` does from all pairs to the
    part.

    Args:
        settings: with penalties for all pairs.
        part: `(n_users, n_items)` COO, what is trained on.
        labels: likewise, all that there are.
    """
    if settings.loss not in _OF_WARP:
        return settings
    ratio = _by_pairs(part) / _by_pairs(labels)
    given = {name: getattr(settings, name) for name in Penalties._fields}
    return settings.model_copy(
        update={name: one * ratio for name, one in given.items() if one != "auto"}
    )


def settled(settings: Training, labels: sp.coo_matrix) -> Training:
    """Return the settings with penalties that are numbers."""
    return settings.model_copy(update=penalties(settings, labels)._asdict())


def _by_pairs(labels: sp.coo_matrix) -> float:
    liked = labels.data > 0
    pairs = max(int(np.count_nonzero(liked)), 1)
    a_user, an_item = (
        pairs / max(int(np.count_nonzero(np.bincount(ids[liked]))), 1)
        for ids in (labels.row, labels.col)
    )
    return float(min(_STRENGTH * a_user**_BY_USER * an_item**_BY_ITEM, _STRONGEST) / pairs)
