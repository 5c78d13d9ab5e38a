"""Situations crossed: what lists would be with some parts of one run and the rest of another."""

from collections.abc import Collection
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.kernel.worker import Ragged
from recsys.model.whole import WholeModel
from recsys.score.histories import Histories, grouped, owners_of
from recsys.score.replay import Situation

I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# The parts of a situation.
SEEN, FILTER, CONFIGURATION, LIKES, MODEL = "seen", "filter", "configuration", "likes", "model"
PARTS = (SEEN, FILTER, CONFIGURATION, LIKES, MODEL)


def crossed(base: Situation, other: Situation, parts: Collection[str]) -> Situation:
    """Return a situation with some parts of another one of the same users.

    What is said of an item that only one of the models has is a part of that model.
    """

    def of(part: str) -> Situation:
        return other if part in parts else base

    model = of(MODEL)
    seen = _with_rows_of(model, of(SEEN)).seen
    likes = _with_rows_of(model, of(LIKES))
    return replace(
        model,
        rules=of(CONFIGURATION).rules,
        filters=of(FILTER).filters,
        histories=Histories(seen, likes.liked, likes.weights),
    )


def _with_rows_of(model: Situation, histories: Situation) -> Histories:
    """Return the histories of one situation in rows of the model of another."""
    own, done = model.histories, histories.histories
    if model is histories:
        return own
    moved = done.moved(rows_in(histories.model, model.model))
    alone = rows_in(model.model, histories.model) < 0
    seen, liked, weights = moved.seen, moved.liked, moved.weights
    n = len(model.users)
    if (more := alone[own.seen.values]).any():
        owner = np.append(owners_of(seen), owners_of(own.seen)[more])
        seen = grouped(owner, np.append(seen.values, own.seen.values[more]).astype(np.int64), n)
    if (more := alone[own.liked.values]).any():
        owner = np.append(owners_of(liked), owners_of(own.liked)[more])
        values = np.append(liked.values, own.liked.values[more]).astype(np.int64)
        weights = np.append(weights, own.weights[more])[np.lexsort((values, owner))]
        liked = grouped(owner, values, n)
    return Histories(seen, liked, weights)


def rows_in(one: WholeModel, other: WholeModel) -> I64:
    """Return the row that each item of a model has in another, -1 where it has not got it."""
    found = pc.index_in(one.items.ids, value_set=other.items.ids)
    rows: I64 = found.fill_null(-1).to_numpy().astype(np.int64)
    return rows


def who_differs(before: Situation, after: Situation) -> dict[str, Bool]:
    """Say for each part whose lists depend on it in which it differs, `(n_users,)` each."""
    n = len(before.users)
    rules = before.rules, after.rules
    seen = any(one.exclude_seen for one in rules)
    return {
        SEEN: _other_seen(before, after) if seen else np.zeros(n, np.bool_),
        FILTER: np.full(n, not before.filters.same_as(after.filters)),
        CONFIGURATION: np.full(n, rules[0] != rules[1]),
        LIKES: _other_likes(before, after) & _by_likes(before, after),
        MODEL: _other_model(before.model, after.model) | _others_left_out(before, after),
    }


def _other_model(before: WholeModel, after: WholeModel) -> Bool:
    """Say for which users the models differ; two of the same content are the same."""
    one, other = before.users, after.users
    if before.folder == after.folder:
        return np.zeros(len(one.known), np.bool_)
    if not (_alike(before.items, after.items) and _alike(before.fold_in, after.fold_in)):
        return np.ones(len(one.known), np.bool_)
    found = (one.known != other.known) | (one.trained != other.trained)
    found |= one.biases != other.biases
    differs: Bool = found | (one.embeddings != other.embeddings).any(axis=1)
    return differs


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are the same: arrays element by element, dataclasses field by field."""
    if is_dataclass(one) and type(one) is type(other):
        return all(_alike(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, pa.Array) and isinstance(other, pa.Array):
        return bool(one.equals(other))
    return bool(one == other)


def _by_likes(before: Situation, after: Situation) -> Bool:
    """Whose lists may depend on what they like: who is, or may be when crossed, folded in."""
    ways = {before.rules.fold_in, after.rules.fold_in}
    if "all" in ways:
        return np.ones(len(before.users), np.bool_)
    found = np.zeros(len(before.users), np.bool_)
    for one in (before, after):
        if "new" in ways:
            found |= ~one.model.users.trained
        if one.left_out is not None:  # they are folded in whatever `scoring.fold_in` says
            found |= one.left_out
    return found


def _others_left_out(before: Situation, after: Situation) -> Bool:
    """Say whom a sample left out of one of the models alone, `(n_users,)`."""
    nobody = np.zeros(len(before.users), np.bool_)
    then, now = (nobody if one.left_out is None else one.left_out for one in (before, after))
    differs: Bool = then != now
    return differs


def _other_seen(before: Situation, after: Situation) -> Bool:
    then, now = _common(before, after)
    return _differing(_keys(then.seen), _keys(now.seen), len(before.users))


def _other_likes(before: Situation, after: Situation) -> Bool:
    then, now = _common(before, after)
    keys, others = _keys(then.liked), _keys(now.liked)
    other = _differing(keys, others, len(before.users))
    _, mine, theirs = np.intersect1d(keys, others, assume_unique=True, return_indices=True)
    heavier = then.weights[mine] != now.weights[theirs]
    other[keys[mine[heavier]] >> 32] = True
    return other


def _common(before: Situation, after: Situation) -> tuple[Histories, Histories]:
    """Return both histories in the rows of the model before, of items that both models have."""
    there = rows_in(before.model, after.model)
    kept = np.where(there >= 0, np.arange(len(there)), -1)
    moved = after.histories.moved(rows_in(after.model, before.model))
    return before.histories.moved(kept), moved


def _keys(lists: Ragged) -> I64:
    return owners_of(lists) << 32 | lists.values


def _differing(one: I64, other: I64, n: int) -> Bool:
    found = np.zeros(n, np.bool_)
    found[np.setxor1d(one, other, assume_unique=True) >> 32] = True
    return found
