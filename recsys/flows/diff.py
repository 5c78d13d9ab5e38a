"""What has changed between two kept versions, and why: for `recsys diff`."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.columns import ITEM, RANK, SCORE, STATUS, USER
from recsys.config.configuration import WITHOUT_EFFECT, Config
from recsys.config.keys import flat
from recsys.errors import ConfigError, OutputError, RecsysError
from recsys.flows.item_titles import titles_of
from recsys.flows.lists_again import Inputs
from recsys.flows.remake import id_types, load_model, row_of, situation, typed
from recsys.publishing.lookup import Kept, open_kept, open_version, version_before
from recsys.publishing.versions import (
    RECOMMENDATIONS,
    VersionIndex,
    latest_per_cohort,
)
from recsys.publishing.versions import STATUS as STATUSES
from recsys.score.causes import Causes, find_causes, no_causes
from recsys.score.changes import Changes
from recsys.score.differences import Differences, find_differences
from recsys.score.past_filters import ALLOW, CANDIDATES, DENY, as_they_were
from recsys.score.replay import Situation
from recsys.score.two_sides import Side
from recsys.store.files import Files

_MOST_RUNS = 2


def chosen(
    files: Files,
    index: VersionIndex,
    runs: Sequence[str],
    cohort: str | None,
    day: dt.date | None,
) -> list[tuple[Kept, Kept]]:
    """Return the versions to compare, each with the one before.

    Args:
        files: the root.
        index: says what readers see.
        runs: none: what readers see, of each cohort, with what was before it; one: this run, with
            what was before it; two: the first is before, the second after.
        cohort: only of this cohort; None: any.
        day: only of this day; None: any; without runs the latest.

    Raises:
        ConfigError: there are more than two runs.
        OutputError: nothing like that is published, or nothing was before it.
        DamageError: a file is not what was published.
    """
    if len(runs) > _MOST_RUNS:
        raise ConfigError(f"found {len(runs)} runs, expected at most two to compare")
    if len(runs) == _MOST_RUNS:
        two = [open_version(files, index, run, cohort, day) for run in runs]
        return [(two[0], two[1])]
    if runs or cohort is not None:
        run = runs[0] if runs else None
        after = open_version(files, index, run, cohort, day)
        return [(open_kept(files, version_before(index, after)), after)]
    return _of_each_cohort(files, index, day)


def _of_each_cohort(
    files: Files, index: VersionIndex, day: dt.date | None
) -> list[tuple[Kept, Kept]]:
    units = latest_per_cohort([unit for unit in index.units() if day in (None, unit.run_date)])
    found, alone = [], OutputError("nothing is published; publish lists with recsys run")
    for unit in units:
        after = open_version(files, index, None, unit.cohort, unit.run_date)
        try:
            before = version_before(index, after)
        except OutputError as error:  # of this cohort; the others can be compared
            alone = error
        else:
            found.append((open_kept(files, before), after))
    if not found:
        raise alone
    return found


def compare_all(
    config: Config, pairs: Sequence[tuple[Kept, Kept]], *, user: str | None = None, why: bool = True
) -> list[tuple[Differences, int | None]]:
    """Return the difference of each pair of versions.

    Args:
        config: has the settings of Spark, if that is needed, and names titles for versions that
            have none.
        pairs: each with the version before first.
        user: look for the causes of this user's changes alone, an id as a person types it.
        why: look for causes.

    Returns:
        Each with the position of the user; without the pairs that do not have the user.

    Raises:
        ConfigError: the user's id is none of the type.
        OutputError: the user was asked for in no version.
    """
    found = []
    for before, after in pairs:
        with Inputs(config.spark) as inputs:
            wanted = typed(user, id_types(after).user, "--user") if user is not None else None
            one = find_differences(_side(before), _side(after))
            position = None if wanted is None else row_of(one.changes.user_ids, wanted)
            if position is None or position >= 0:
                more = _explained(one, before, after, inputs, config, why, position)
                found.append((more, position))
    if not found:
        raise OutputError(f"--user: found {user!r}, expected a user who was asked for in a run")
    return found


def _explained(
    found: Differences,
    before: Kept,
    after: Kept,
    inputs: Inputs,
    config: Config,
    why: bool,
    user: int | None,
) -> Differences:
    """Add causes, of one user or of all, titles, and the configuration."""
    changes = found.changes
    notes: list[str] = []
    causes = None
    titles = titles_of([after, before], config.items.titles, notes, changes.item_ids)
    for kept in (before, after):
        if kept.held:
            notes.append(f"run {kept.version.run_id} was held back by a gate and is not published")
    if why:
        mine = changed_users(changes)
        try:
            chosen = mine if user is None else mine[mine == user]
            causes = causes_of(before, after, changes, inputs, chosen)
        except RecsysError as error:
            notes.append(f"the causes are not known: {error}")
    return replace(
        found,
        titles=titles,
        causes=causes,
        configuration=other_keys(before.manifest.configuration, after.manifest.configuration),
        notes=notes,
    )


def _side(kept: Kept) -> Side:
    version = kept.version
    return Side(
        version.run_id,
        version.unit.run_date.isoformat(),
        version.unit.cohort,
        kept.manifest.model_id,
        kept.read(RECOMMENDATIONS, [USER, RANK, ITEM, SCORE]),
        kept.read(STATUSES, [USER, STATUS]),
    )


def changed_users(changes: Changes) -> NDArray[np.int64]:
    """Return the positions of the users whose items have left or entered."""
    return np.flatnonzero((changes.n_left > 0) | (changes.n_entered > 0))


def named_files(config: Config) -> list[str]:
    """Return which keys name files or tables that lists depend on, and that may change."""
    found = [f"items.{name}" for name in _from_files(config)]
    return found + (["cohort.users.liked"] if _likes_from_files(config) else [])


def causes_of(
    before: Kept, after: Kept, changes: Changes, inputs: Inputs, chosen: NDArray[np.int64]
) -> Causes:
    """Find the causes of the changes of some users.

    Args:
        before: what was.
        after: what is.
        changes: what has changed.
        inputs: reads what the configurations name, as it is now.
        chosen: positions of `changed_users`, whose lists are made again.

    Raises:
        ModelError: a model or its interactions are not there any more, or damaged.
        InputError, ConfigError: a list that a configuration names cannot be read.
    """
    users = changes.user_ids.take(pa.array(chosen))
    if not len(users):
        return no_causes(changes)
    then, now = _situations(before, after, users, inputs)
    configs = before.config, after.config
    if any(_from_files(config) for config in configs):
        then = as_they_were(then, changes, changes.before, _from_files(before.config))
        now = as_they_were(now, changes, changes.after, _from_files(after.config))
    may_differ = any(named_files(config) for config in configs)
    return find_causes(changes, then, now, verify=may_differ)


def _situations(
    before: Kept, after: Kept, users: pa.Array, inputs: Inputs
) -> tuple[Situation, Situation]:
    models = [load_model(one, users) for one in (before, after)]
    one_way = models[0].users.trained == models[1].users.trained
    everyone = "all" in (before.config.scoring.fold_in, after.config.scoring.fold_in)
    # Whom one of them folds in, and the other one does not.
    likes_of = one_way | True if everyone else ~one_way
    then, now = (
        situation(kept, users, inputs, model=model, likes_of=likes_of)
        for kept, model in zip((before, after), models, strict=True)
    )
    return then, now


def _from_files(config: Config) -> list[str]:
    """Return which filters come from files or tables, which may have changed since the run."""
    items = config.items
    named = {ALLOW: items.allow, DENY: items.deny}
    found = [name for name, chosen in named.items() if chosen is not None and chosen.ids is None]
    return found + ([CANDIDATES] if items.candidates is not None else [])


def _likes_from_files(config: Config) -> bool:
    return config.cohort.users is not None and config.cohort.users.liked is not None


def other_keys(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the keys that have an effect on results and differ, each with its two values."""
    then, now = (dict(flat(config)) for config in (before, after))
    return [
        (key, then.get(key), now.get(key))
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key) and not _without_effect(key)
    ]


def _without_effect(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in WITHOUT_EFFECT)
