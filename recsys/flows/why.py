"""Why an item is in a user's list, or why it is not: `recsys why`."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import LABEL
from recsys.errors import ConfigError, RecsysError
from recsys.flows.item_titles import titles_of
from recsys.flows.lists_again import Inputs
from recsys.flows.manage import Place
from recsys.flows.remake import PublishedList, published_list, row_of, situation, typed
from recsys.ingest.local_pairs import ARROW, read_local_pairs
from recsys.kernel.worker import FEATURES, FOLD_IN, MODEL, POPULAR
from recsys.publishing.lookup import Kept, open_version
from recsys.publishing.versions import RECOMMENDATIONS
from recsys.score import explain
from recsys.score.histories import find_histories
from recsys.score.replay import NONE, Situation
from recsys.store.files import require_local
from recsys.store.manifest import Part

_HOW = {
    MODEL: "the model was trained on this user",
    FOLD_IN: "folded in from what the user likes",
    FEATURES: "the user has nothing but features",
    POPULAR: "popular items: nothing is known to be liked",
    NONE: "the user gets no list",
}


class HistoryItem(Part):
    """What one item of the user's history adds to the score."""

    item_id: int | str
    """The item."""
    title: str | None
    """What it is called, where `items.titles` says it."""
    weight: float
    """How much it counts beside the others."""
    contribution: float
    """What it adds to the score."""


class ScoreParts(Part):
    """A score as a sum."""

    user_bias: float
    """The user's bias; 0 for a user who is folded in."""
    item_bias: float
    """The item's bias, as it counts."""
    intercept: float
    """What the fold-in map adds for everyone."""
    features: float
    """What the user's features add."""
    history: list[HistoryItem]
    """What the items of the user's history add, the largest first."""
    rest: float
    """The part that comes from nothing above: 0 but for rounding where the user is folded in."""
    total: float
    """The sum."""
    exact: bool
    """Whether the rest is rounding alone. If not, the contributions are those that the user would
    have if they were folded in, and the rest is what training made of the user beyond that."""
    cosine: float | None
    """How near the explained vector is to the user's own: 1 is the same direction."""


class Why(Part):
    """Why an item is in a list, or why it is not."""

    run_id: str
    """The run that published the list."""
    run_date: str
    """The day that it is for."""
    cohort: str
    """The cohort that it is for."""
    model_id: str
    """The model that it was made with."""
    user_id: int | str
    """The user."""
    item_id: int | str
    """The item."""
    title: str | None
    """What it is called, where `items.titles` says it."""
    source: str
    """How the list was made: `model`, `fold_in`, `features`, `popular`, or `none`."""
    rank: int | None
    """The published rank; null where the item is not in the list."""
    score: float | None
    """The published score, or the one that the item would have; null where it has none."""
    full_rank: int | None
    """The rank in a full sort of all items that may be in the list, with this one among them."""
    of: int
    """How many items that sort has."""
    last_score: float | None
    """The score in the last place of a full list; null where fewer items may be in it."""
    taken_by: list[str]
    """The filters that keep the item out of the list."""
    reproduced: bool
    """Whether the list, made again from what is stored, is the published one to the last bit."""
    parts: ScoreParts | None
    """The score as a sum; null where no vector of the user made it."""
    notes: list[str]
    """What else should be known."""


def why(place: Place, user: str, item: str, run: str | None, cohort: str | None, day: Any) -> Why:
    """Explain one item for one user of a kept version.

    Args:
        place: the root.
        user: its id, as a person types it.
        item: likewise.
        run: the run that published the list; None: what readers see.
        cohort: only of this cohort; None: any.
        day: only of this day; None: any.

    Raises:
        ConfigError: an id is none of the type, or the model does not have the item.
        OutputError: nothing like that is published.
        ModelError: what the list was made of is not there any more.
    """
    kept = open_version(place.files, place.index, run, cohort, day)
    schema = kept.manifest.schemas[RECOMMENDATIONS]
    user_id = typed(user, schema["user_id"], "--user")
    item_id = typed(item, schema["item_id"], "--item")
    with Inputs(place.config.spark) as inputs:
        users = pa.array([user_id], ARROW[schema["user_id"]])
        made_of = situation(kept, users, inputs)
        items = made_of.model.items.ids
        row = row_of(items, item_id)
        if row < 0:
            raise ConfigError(
                f"--item: found {item_id!r}, expected one of the {len(items):,} items of model "
                f"{kept.manifest.model_id}: an item that is not in the model is in no list"
            )
        notes: list[str] = []
        titles = titles_of([kept], place.config.items.titles, notes, items)
        published = published_list(kept, user_id)
        return _explained(kept, made_of, published, (user_id, item_id, row), titles, notes)


def _explained(
    kept: Kept,
    made_of: Situation,
    published: PublishedList,
    asked: tuple[Any, Any, int],
    titles: dict[Any, str],
    notes: list[str],
) -> Why:
    user_id, item_id, row = asked
    way = str(made_of.ways[0])
    place = explain.place_of(made_of, 0, row)
    reproduced = _same(made_of, published)
    rank = published.items.index(item_id) + 1 if item_id in published.items else None
    taken = explain.what_took(made_of, 0, row)
    said = list(notes)
    if not published.items:
        said.append("nothing is published of this user; this is what the list would be made of")
    elif not reproduced:
        said.append(
            "the list that is made again is not the published one: a file that the configuration "
            "names, the interactions or the library that adds up have changed since"
        )
    parts = _parts(kept, made_of, row, titles, said)
    version = kept.version
    score = published.scores[rank - 1] if rank is not None else place.score
    return Why(
        run_id=version.run_id,
        run_date=version.unit.run_date.isoformat(),
        cohort=version.unit.cohort,
        model_id=kept.manifest.model_id,
        user_id=user_id,
        item_id=item_id,
        title=titles.get(item_id),
        source=way,
        rank=rank,
        score=None if score is None else float(score),
        full_rank=place.rank,
        of=place.of,
        last_score=None if place.below is None else float(place.below),
        taken_by=taken,
        reproduced=reproduced,
        parts=parts,
        notes=said,
    )


def _same(made_of: Situation, published: PublishedList) -> bool:
    made = made_of.lists(np.zeros(1, np.int64))
    ids = made_of.model.items.ids.take(pa.array(made.items)).to_pylist()
    bits = made.scores.view(np.uint32), published.scores.view(np.uint32)
    return ids == published.items and np.array_equal(*bits)


def _parts(
    kept: Kept, made_of: Situation, row: int, titles: dict[Any, str], notes: list[str]
) -> ScoreParts | None:
    likes = made_of.histories
    if made_of.ways[0] == MODEL:
        try:
            likes = _trained_likes(kept, made_of)
        except RecsysError as error:
            notes.append(f"the history is not known: {error}")
    split = explain.split_score(made_of, 0, row, explain.vector_of(made_of, 0), likes)
    if split is None:
        return None
    weight = dict(zip(likes.liked[0].tolist(), likes.weights_of(0).tolist(), strict=True))
    ids = made_of.model.items.ids.take(pa.array(split.items)).to_pylist()
    history = [
        HistoryItem(
            item_id=item,
            title=titles.get(item),
            weight=weight[row_],
            contribution=float(contribution),
        )
        for item, row_, contribution in zip(
            ids, split.items.tolist(), split.contributions, strict=True
        )
    ]
    return ScoreParts(
        user_bias=split.user_bias,
        item_bias=split.item_bias,
        intercept=split.intercept,
        features=split.features,
        history=history,
        rest=split.rest,
        total=split.total,
        exact=split.exact,
        cosine=split.cosine,
    )


def _trained_likes(kept: Kept, made_of: Situation) -> Any:
    """Return the positive pairs that the model was trained on, whatever came later."""
    model = made_of.model
    folder = require_local(kept.files.uri("interactions", model.manifest.interactions_id), "root")
    pairs = read_local_pairs(folder, made_of.users)
    positive = pairs.filter(pc.equal(pairs.column(LABEL), 1))
    return find_histories(
        model, made_of.users, positive, np.ones(1, np.bool_), model.manifest.pair_rules
    )


def lines(found: Why, *, most: int = 10) -> list[str]:
    """Tell it as lines of text; of a long history the items that add or take most."""
    name = f"{found.item_id}" + (f" ({' '.join(found.title.split())})" if found.title else "")
    about = f"run {found.run_id}, cohort {found.cohort} of {found.run_date}"
    told = [f"item {name} for user {found.user_id}: {about}"]
    told.append(f"the list: {_HOW[found.source]} (model {found.model_id})")
    score = "no score" if found.score is None else f"score {found.score:.6g}"
    if found.rank is not None:
        told.append(f"in the list at rank {found.rank}, {score}")
    else:
        told.append(f"not in the list, {score}")
        told += [f"  {reason}" for reason in found.taken_by]
        if not found.taken_by and found.full_rank is not None and found.last_score is not None:
            told.append(f"  below the last place, which has the score {found.last_score:.6g}")
    if found.full_rank is not None and found.source != NONE:
        told.append(f"rank in a full sort: {found.full_rank:,} of {found.of:,}")
    if found.parts is not None:
        told += _told_parts(found.parts, most)
    elif found.source == POPULAR:
        told.append("the score is the number of users who like the item")
    if found.reproduced:
        told.append("made again from what is stored, the list is the published one to the last bit")
    return told


def _told_parts(parts: ScoreParts, most: int) -> list[str]:
    rows = [("user's bias", parts.user_bias), ("item's bias", parts.item_bias)]
    rows += [("intercept of the fold-in", parts.intercept), ("user's features", parts.features)]
    told = ["", "the score is the sum of"]
    told += [f"{value:+12.6f}  {name}" for name, value in rows if value]
    first = sorted(parts.history, key=lambda one: -abs(one.contribution))[:most]
    for one in sorted(first, key=lambda one: -one.contribution):
        title = f" {' '.join(one.title.split())}" if one.title else ""
        told.append(f"{one.contribution:+12.6f}  liked {one.item_id}{title}")
    if (left := len(parts.history) - len(first)) > 0:
        shown = sum(one.contribution for one in first)
        rest = sum(one.contribution for one in parts.history) - shown
        told.append(f"{rest:+12.6f}  {left:,} more items of the history (--json has all)")
    if not parts.exact:
        told.append(f"{parts.rest:+12.6f}  what training made of the user beyond the history")
    told.append(f"{parts.total:+12.6f}  in all")
    if not parts.exact:
        near = "unknown" if parts.cosine is None else f"{parts.cosine:.3f}"
        told.append(
            "the user's vector was trained, so what each item adds is approximate: it is what the "
            f"user would have if folded in (cosine to the trained vector: {near})"
        )
    return told
