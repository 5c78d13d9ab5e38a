"""What is published of one user or one item, with history and titles: `recsys show`."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import ITEM, LABEL, RANK, RATING, REASON, SCORE, SOURCE, STATUS, TIMESTAMP, USER
from recsys.errors import OutputError, RecsysError
from recsys.flows.item_titles import titles_of
from recsys.flows.lists_again import Inputs
from recsys.flows.manage import Place
from recsys.flows.remake import id_types, interactions_folder, model_items, row_of, typed
from recsys.ingest.local_pairs import ARROW, read_local_pairs
from recsys.publishing.lookup import Kept, open_kept, open_version
from recsys.publishing.versions import RECOMMENDATIONS, latest_per_cohort
from recsys.publishing.versions import STATUS as STATUSES
from recsys.store.manifest import Part

_MOST_USERS = 10


class ShownRow(Part):
    """One place of a list."""

    rank: int
    """The place."""
    item_id: int | str
    """The item."""
    title: str | None
    """What it is called, where `items.titles` says it."""
    score: float
    """Its score."""
    source: str
    """What the row rests on."""


class Shown(Part):
    """What was published, and when."""

    run_id: str
    """The run that published it."""
    run_date: str
    """The day that it is for."""
    cohort: str
    """The cohort that it is for."""
    model_id: str
    """The model that it was made with."""


class ShownList(Shown):
    """What is published of a user."""

    status: str
    """What became of the request, as in the table `status`."""
    reason: str
    """The same in words."""
    items: list[ShownRow]
    """The list, by rank."""


class Interaction(Part):
    """A pair of a user and an item that a model was trained on."""

    user_id: int | str
    """The user."""
    item_id: int | str
    """The item."""
    title: str | None
    """What the item is called, where `items.titles` says it."""
    rating: float
    """The rating that all rows of the pair made."""
    liked: bool | None
    """Whether the pair counts as a like; null where it is not learned from."""
    timestamp: str | None
    """When, ISO 8601 in UTC; null where the input has no timestamps."""


class ShownUser(Part):
    """All that is shown of a user."""

    user_id: int | str
    """The user."""
    published: list[ShownList]
    """What is published, by cohort."""
    history: list[Interaction]
    """What the user has done, the latest first."""
    notes: list[str]
    """What else should be known."""


class AtRank(Part):
    """How often an item is at a rank."""

    rank: int
    """The rank."""
    lists: int
    """In how many lists the item is there."""


class FirstUser(Part):
    """A user who has an item far up in the list."""

    user_id: int | str
    """The user."""
    rank: int
    """The item's rank."""
    score: float
    """The item's score."""


class ShownLists(Shown):
    """In which lists an item is."""

    lists: int
    """In how many lists it is."""
    of: int
    """How many lists there are."""
    ranks: list[AtRank]
    """How often it is at which rank."""
    first: list[FirstUser]
    """The users who have it farthest up, at most ten."""
    trained: bool | None
    """Whether the model has learned from pairs with it; null where the model has not got it."""
    positives: int | None
    """How many users like it, as the model counts; null likewise."""
    kept_out: list[str]
    """What keeps it out of all lists."""


class ShownItem(Part):
    """All that is shown of an item."""

    item_id: int | str
    """The item."""
    title: str | None
    """What it is called, where `items.titles` says it."""
    published: list[ShownLists]
    """What is published, by cohort."""
    history: list[Interaction]
    """Who has done something with it, the latest first."""
    notes: list[str]
    """What else should be known."""


def user(
    place: Place, name: str, run: str | None, cohort: str | None, day: dt.date | None
) -> ShownUser:
    """Return what is published of a user, of each cohort, and what the user has done.

    Args:
        place: the root.
        name: the user's id, as a person types it.
        run: the run that published it; None: what readers see.
        cohort: only of this cohort; None: any.
        day: only of this day; None: the latest of each cohort.

    Raises:
        ConfigError: the id is none of the type.
        OutputError: nothing like that is published, or nothing is known of the user.
    """
    versions = _versions(place, run, cohort, day)
    schema = versions[-1].manifest.schemas[RECOMMENDATIONS]
    wanted = typed(name, schema[USER], "user")
    notes: list[str] = []
    history = _history(versions[-1], USER, wanted, notes)
    titles = _titles(place, versions, notes)
    found = [_of_user(kept, wanted, titles) for kept in versions]
    published = [one for one in found if one is not None]
    if not published and not history:
        raise OutputError(
            f"user {name[:60]!r}: nothing is published of this user, and the interactions have "
            "none of theirs"
        )
    return ShownUser(
        user_id=wanted, published=published, history=_told(history, titles), notes=notes
    )


def item(
    place: Place, name: str, run: str | None, cohort: str | None, day: dt.date | None
) -> ShownItem:
    """Return in which lists an item is, of each cohort, and who has done something with it.

    Args and errors are those of `user`.
    """
    versions = _versions(place, run, cohort, day)
    kind = versions[-1].manifest.schemas[RECOMMENDATIONS][ITEM]
    wanted = typed(name, kind, "item")
    notes: list[str] = []
    history = _history(versions[-1], ITEM, wanted, notes)
    titles = _titles(place, versions, notes)
    with Inputs(place.config.spark) as inputs:
        published = [_of_item(kept, wanted, inputs, notes) for kept in versions]
    if not history and all(one.trained is None for one in published):
        raise OutputError(
            f"item {name[:60]!r}: it is in no model, and the interactions do not have it"
        )
    return ShownItem(
        item_id=wanted,
        title=titles.get(wanted),
        published=published,
        history=_told(history, titles),
        notes=notes,
    )


def _versions(place: Place, run: str | None, cohort: str | None, day: dt.date | None) -> list[Kept]:
    """Return the versions that are asked for, in order of publication."""
    index = place.index
    if run is not None:
        return [open_version(place.files, index, run, cohort, day)]
    units = [
        unit
        for unit in index.units()
        if cohort in (None, unit.cohort) and day in (None, unit.run_date)
    ]
    current = [index.current(unit) for unit in latest_per_cohort(units)]
    found = [version for version in current if version is not None]
    if not found:
        asked = "".join([f" of cohort {cohort}" if cohort else "", f" of {day}" if day else ""])
        raise OutputError(f"nothing is published{asked}; publish lists with recsys run")
    found.sort(key=lambda version: (version.published_at, version.unit))
    return [open_kept(place.files, version) for version in found]


def _titles(place: Place, versions: list[Kept], notes: list[str]) -> dict[Any, str]:
    return titles_of(versions[::-1], place.config.items.titles, notes, None)


def _history(kept: Kept, column: str, wanted: Any, notes: list[str]) -> list[dict[str, Any]]:
    """Return the pairs of a user or an item, the latest first."""
    kind = ARROW[kept.manifest.schemas[RECOMMENDATIONS][column]]
    chosen = {"users" if column == USER else "items": pa.array([wanted], kind)}
    try:
        found = read_local_pairs(interactions_folder(kept), **chosen, timestamps=True)
    except RecsysError as error:
        notes.append(f"the history is not known: {error}")
        return []
    by = [(TIMESTAMP, "descending"), (USER, "ascending"), (ITEM, "ascending")]
    rows: list[dict[str, Any]] = found.sort_by(by).to_pylist()
    return rows


def _told(rows: list[dict[str, Any]], titles: dict[Any, str]) -> list[Interaction]:
    return [
        Interaction(
            user_id=row[USER],
            item_id=row[ITEM],
            title=titles.get(row[ITEM]),
            rating=row[RATING],
            liked=None if row[LABEL] == 0 else row[LABEL] > 0,
            timestamp=None if row[TIMESTAMP] is None else row[TIMESTAMP].isoformat(),
        )
        for row in rows
    ]


def _about(kept: Kept) -> dict[str, str]:
    version = kept.version
    return {
        "run_id": version.run_id,
        "run_date": version.unit.run_date.isoformat(),
        "cohort": version.unit.cohort,
        "model_id": kept.manifest.model_id,
    }


def _of_user(kept: Kept, wanted: Any, titles: dict[Any, str]) -> ShownList | None:
    """Return what is published of a user; None for whoever was not asked for."""
    ids = pa.array([wanted], ARROW[kept.manifest.schemas[RECOMMENDATIONS][USER]])
    statuses = kept.read(STATUSES, [USER, STATUS, REASON], ids).to_pylist()
    if not statuses:
        return None
    columns = [USER, RANK, ITEM, SCORE, SOURCE]
    rows = kept.read(RECOMMENDATIONS, columns, ids).sort_by(RANK).to_pylist()
    return ShownList(
        **_about(kept),
        status=statuses[0][STATUS],
        reason=statuses[0][REASON],
        items=[
            ShownRow(
                rank=row[RANK],
                item_id=row[ITEM],
                title=titles.get(row[ITEM]),
                score=row[SCORE],
                source=row[SOURCE],
            )
            for row in rows
        ],
    )


def _of_item(kept: Kept, wanted: Any, inputs: Inputs, notes: list[str]) -> ShownLists:
    lists = kept.read(RECOMMENDATIONS, [USER, RANK, ITEM, SCORE])
    kind = lists.schema.field(ITEM).type
    mine = lists.filter(pc.equal(lists.column(ITEM), pa.scalar(wanted, kind)))
    mine = mine.sort_by([(RANK, "ascending"), (USER, "ascending")])
    counts = mine.group_by(RANK).aggregate([([], "count_all")]).sort_by(RANK).to_pylist()
    trained, positives, kept_out = None, None, []
    try:
        items = model_items(kept)
        row = row_of(items.ids, wanted)
        if row >= 0:
            trained = bool(items.trained[row])
            positives = None if items.positives is None else int(items.positives[row])
        kept_out = _kept_out(kept, wanted, inputs, trained)
    except RecsysError as error:
        notes.append(f"what the model knows of the item is not known: {error}")
    return ShownLists(
        **_about(kept),
        lists=len(mine),
        of=len(pc.unique(lists.column(USER))),
        ranks=[AtRank(rank=one[RANK], lists=one["count_all"]) for one in counts],
        first=[
            FirstUser(user_id=one[USER], rank=one[RANK], score=one[SCORE])
            for one in mine.slice(0, _MOST_USERS).to_pylist()
        ],
        trained=trained,
        positives=positives,
        kept_out=kept_out,
    )


def _kept_out(kept: Kept, wanted: Any, inputs: Inputs, trained: bool | None) -> list[str]:
    """Say what keeps an item out of all lists, by the configuration's lists as they are now."""
    if trained is None:
        return ["the model does not have it"]
    filters, found = inputs.filters(kept.config, id_types(kept)), []
    if filters.deny is not None and row_of(filters.deny, wanted) >= 0:
        found.append("it is in items.deny")
    if filters.allow is not None and row_of(filters.allow, wanted) < 0:
        found.append("it is not in items.allow")
    if not trained and kept.config.features.cold_items == "exclude":
        found.append("the model knows nothing but its features (features.cold_items)")
    return found
