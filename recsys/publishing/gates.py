"""Whether a staged result is good enough for readers to see.

Some gates are always there: what every reader relies on. Others have a limit in the configuration,
and null in its place means that they are not asked. A gate that cannot say anything (too few users,
nothing published before) is not applied, and says why.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from recsys.columns import ITEM, USER
from recsys.config.sections import Gates, Items
from recsys.errors import GateError
from recsys.publishing import checks
from recsys.publishing.checks import ByUser, Fault

PASSED, FAILED, NOT_APPLIED = "passed", "failed", "not applied"

_NONE = "0"
# With fewer items to choose from, for each in a list, any two lists have much in common.
_LEAST_CHOICE = 10
# Counts of a model's manifest that differ when it learned from other interactions.
_LEARNED_FROM = ("positive_pairs", "negative_pairs", "users_in_training", "items_in_training")
# What must be the same of two trainings for their validation metrics to be compared.
_MEASURED_BY = (
    ("training", "early_stopping", "share"),
    ("deduplication", "policy"),
    ("filters", "rating_threshold"),
    ("filters", "min_user_interactions"),
    ("filters", "min_item_interactions"),
)


@dataclass(frozen=True)
class Verdict:
    """What a gate found.

    Attributes:
        gate: its name.
        state: `passed`, `failed` or `not applied`.
        found: a count of faults, or what is compared with the limit; None where nothing is known.
        allowed: the limit, with its key in the configuration.
        reason: why it was not applied, or what is wrong, with an example.
    """

    gate: str
    state: str
    found: float | int | str | None
    allowed: str
    reason: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return it in plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        """Say it in one line."""
        found = f"{self.found:.4g}" if isinstance(self.found, float) else self.found
        reason = "" if self.reason is None else f" ({self.reason})"
        return f"{self.gate}: found {found}, allowed {self.allowed}{reason}"


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
        user_type, item_type: Spark's names of the types of the ids.
        model: its manifest.
    """

    lists: DataFrame
    statuses: DataFrame
    asked: DataFrame
    pairs: Sequence[DataFrame]
    items: Items
    k: int
    exclude_seen: bool
    n_catalogue: int
    user_type: str
    item_type: str
    model: Mapping[str, Any]

    @property
    def seen(self) -> DataFrame:
        """What users have done: `user_id` and `item_id`."""
        return checks.seen_pairs(self.pairs, self.asked, self.item_type)

    @property
    def too_little_choice(self) -> str | None:
        """Why lists say little of the model that made them; None where they say much."""
        if self.items.candidates is not None:
            return "items.candidates decides"
        if self.n_catalogue < _LEAST_CHOICE * self.k:
            return f"lists of {self.k} from {self.n_catalogue} items leave little choice"
        return None


@dataclass(frozen=True)
class Previous:
    """What readers see now.

    Attributes:
        run_id: whose it is.
        lists: as in Subject.
        model: the manifest of its model.
    """

    run_id: str
    lists: DataFrame
    model: Mapping[str, Any]


def judge_lists(spark: SparkSession, subject: Subject, settings: Gates) -> list[Verdict]:
    """Judge statuses and lists by themselves.

    Raises:
        InputError: a source of `items` cannot be read any more.
    """
    found = checks.by_user(subject.lists, subject.statuses, subject.asked, subject.k)
    return [
        _faultless("statuses", found.statuses),
        _faultless("lists", found.lists),
        _faultless("finite", {"scores that are no finite number": found.not_finite}),
        _seen(subject),
        *_by_item(spark, subject, found, settings),
        _full_lists(subject, found, settings),
    ]


def judge_change(subject: Subject, previous: Previous | None, settings: Gates) -> list[Verdict]:
    """Judge lists and the model against what is published, and the model against popularity."""
    return [
        *_overlap(subject, previous, settings),
        _popularity(subject.model, settings),
        _published(subject.model, previous, settings),
    ]


def enforce(verdicts: Sequence[Verdict], *, held: str) -> None:
    """Stop a run that failed a gate.

    Args:
        verdicts: of all gates.
        held: where the staged tables are kept.

    Raises:
        GateError: a gate failed.
    """
    failed = [str(verdict) for verdict in verdicts if verdict.state == FAILED]
    if failed:
        gates = "a gate" if len(failed) == 1 else f"{len(failed)} gates"
        raise GateError(
            f"the result failed {gates}: {'; '.join(failed)}; nothing was published: what was "
            f"staged is in {held}; mend the cause, change the limit, or publish it anyway with "
            "--force"
        )


def _not_applied(gate: str, allowed: str, reason: str, found: float | None = None) -> Verdict:
    return Verdict(gate, NOT_APPLIED, found, allowed, reason)


def _faultless(gate: str, faults: Mapping[str, Fault]) -> Verdict:
    wrong = {kind: fault for kind, fault in faults.items() if fault.count}
    if not wrong:
        return Verdict(gate, PASSED, 0, _NONE)
    told = [f"{fault.count:,} {kind}, such as {fault.example}" for kind, fault in wrong.items()]
    return Verdict(
        gate, FAILED, sum(fault.count for fault in wrong.values()), _NONE, "; ".join(told)
    )


def _seen(subject: Subject) -> Verdict:
    if not subject.exclude_seen:
        return _not_applied("seen", _NONE, "scoring.exclude_seen is false")
    fault = checks.among(subject.lists, subject.seen)
    return _faultless("seen", {"items that their user has interacted with": fault})


def _by_item(
    spark: SparkSession, subject: Subject, users: ByUser, settings: Gates
) -> list[Verdict]:
    items, wanted = checks.per_item(subject.lists).persist(), subject.items
    try:
        found = checks.by_item(items)
        faults = {}
        for key, chosen, what in (
            ("allow", wanted.allow, "outside items.allow"),
            ("deny", wanted.deny, "of items.deny"),
        ):
            if chosen is not None:
                faults[f"items {what}"] = checks.outside_list(
                    spark,
                    items,
                    chosen,
                    f"items.{key}",
                    item_type=subject.item_type,
                    denied=key == "deny",
                )
    finally:
        items.unpersist()
    if wanted.candidates is not None:
        faults["items that are no candidates of their user"] = checks.outside_candidates(
            spark,
            subject.lists,
            wanted.candidates,
            user_type=subject.user_type,
            item_type=subject.item_type,
        )
    return [
        _faultless("filtered", faults)
        if faults
        else _not_applied("filtered", _NONE, "items has no allow, deny or candidates"),
        _coverage(subject, users, found, settings),
        _top_item(subject, users, found, settings),
    ]


def _coverage(subject: Subject, users: ByUser, found: checks.ByItem, settings: Gates) -> Verdict:
    limit = _Limit("coverage", "min_coverage", settings.min_coverage)
    why_not = _few(users.personal, settings)
    if subject.items.candidates is not None:
        why_not = "items.candidates decides"
    if limit.value is None or why_not:
        return limit.not_applied(why_not)
    possible = min(subject.n_catalogue, found.personal_rows)
    reason = f"{found.personal_items:,} different items of {possible:,} possible ones"
    return limit.judge(found.personal_items / possible, reason)


def _top_item(subject: Subject, users: ByUser, found: checks.ByItem, settings: Gates) -> Verdict:
    limit = _Limit("top_item", "max_top_item", settings.max_top_item, most=True)
    why_not = _few(users.personal, settings) or subject.too_little_choice
    if limit.value is None or why_not:
        return limit.not_applied(why_not)
    reason = f"item {found.top_item} is in {found.top:,} of {users.personal:,} lists"
    return limit.judge(found.top / users.personal, reason)


def _full_lists(subject: Subject, users: ByUser, settings: Gates) -> Verdict:
    limit = _Limit("full_lists", "min_full_lists", settings.min_full_lists)
    why_not = None if users.users else "nobody with a valid id was asked for"
    if subject.items.candidates is not None:
        why_not = "items.candidates decides"
    if limit.value is None or why_not:
        return limit.not_applied(why_not)
    full = users.full
    if full < users.users:
        done = subject.seen if subject.exclude_seen else None
        full = checks.complete(subject.lists, subject.asked, done, subject.k, subject.n_catalogue)
    reason = f"{full:,} of {users.users:,} users have {subject.k} items, or all that they can have"
    return limit.judge(full / users.users, reason)


def _overlap(subject: Subject, previous: Previous | None, settings: Gates) -> list[Verdict]:
    low = _Limit("overlap", "min_overlap", settings.min_overlap)
    high = _Limit("frozen", "max_overlap", settings.max_overlap, most=True)
    why_not = subject.too_little_choice
    if previous is None:
        why_not = "nothing was published before"
    elif _types(previous.lists) != (subject.user_type, subject.item_type):
        why_not = f"run {previous.run_id} has ids of other types"
    if previous is None or why_not or (low.value is None and high.value is None):
        return [low.not_applied(why_not), high.not_applied(why_not)]
    found = checks.overlap(subject.lists, previous.lists)
    few = _few(found.users, settings, " that run " + previous.run_id + " has as well")
    if few or found.mean is None:
        return [low.not_applied(few), high.not_applied(few)]
    reason = f"with run {previous.run_id}, over {found.users:,} users"
    unchanged = _learned_from(subject.model) == _learned_from(previous.model)
    same = "the model learned from as much as that of run " + previous.run_id
    return [
        low.judge(found.mean, reason),
        high.not_applied(same, found.mean) if unchanged else high.judge(found.mean, reason),
    ]


def _types(lists: DataFrame) -> tuple[str, ...]:
    return tuple(lists.schema[name].dataType.simpleString() for name in (USER, ITEM))


def _learned_from(model: Mapping[str, Any]) -> list[Any]:
    return [model["counts"].get(name) for name in _LEARNED_FROM]


def _popularity(model: Mapping[str, Any], settings: Gates) -> Verdict:
    limit = _Limit("popularity", "min_to_popularity", settings.min_to_popularity)
    report = _validation(model)
    why_not = None if report else "the model was trained without early stopping"
    if report and not report["popularity_ndcg"]:
        why_not = "popularity finds nothing of what was held out"
    if limit.value is None or why_not:
        return limit.not_applied(why_not)
    ndcg, reached = report["ndcg"], report["popularity_ndcg"]
    return limit.judge(ndcg / reached, f"{report['metric']} {ndcg:.4f}, popularity {reached:.4f}")


def _published(model: Mapping[str, Any], previous: Previous | None, settings: Gates) -> Verdict:
    limit = _Limit("published", "min_to_published", settings.min_to_published)
    if limit.value is None or previous is None:
        return limit.not_applied("nothing was published before")
    now, then = _validation(model), _validation(previous.model)
    why_not = None
    if not now or not then:
        whose = "the model" if not now else f"the model of run {previous.run_id}"
        why_not = f"{whose} was trained without early stopping"
    elif model["model_id"] == previous.model["model_id"]:
        why_not = f"run {previous.run_id} has the same model"
    elif other := _measured_otherwise(model, previous.model):
        why_not = f"the model of run {previous.run_id} was measured otherwise ({other})"
    elif not then["ndcg"]:
        why_not = f"the model of run {previous.run_id} found nothing of what was held out"
    if why_not:
        return limit.not_applied(why_not)
    reason = f"{now['metric']} {now['ndcg']:.4f}, in run {previous.run_id} {then['ndcg']:.4f}"
    return limit.judge(now["ndcg"] / then["ndcg"], reason)


def _validation(model: Mapping[str, Any]) -> Mapping[str, Any]:
    return model["training"].get("early_stopping") or {}


def _measured_otherwise(model: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return what two models' validation metrics differ in, as measurements."""
    if _validation(model)["metric"] != _validation(other)["metric"]:
        return "its metric is " + str(_validation(other)["metric"])
    for path in _MEASURED_BY:
        if _configured(model, path) != _configured(other, path):
            return f"{'.'.join(path)} was {_configured(other, path)}"
    return None


def _configured(model: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = model.get("configuration", {})
    for name in path:
        value = (value or {}).get(name)
    return value


def _few(users: int, settings: Gates, more: str = "") -> str | None:
    if users >= settings.min_users:
        return None
    return f"{users:,} lists made with the model{more}, fewer than gates.min_users"


@dataclass(frozen=True)
class _Limit:
    """A gate that the configuration has a number for."""

    gate: str
    key: str
    value: float | None
    most: bool = False

    @property
    def allowed(self) -> str:
        if self.value is None:
            return "anything"
        return f"at {'most' if self.most else 'least'} {self.value:g} (gates.{self.key})"

    def not_applied(self, reason: str | None, found: float | None = None) -> Verdict:
        if self.value is None:
            reason = f"gates.{self.key} is null"
        return _not_applied(self.gate, self.allowed, reason or "", found)

    def judge(self, found: float, reason: str) -> Verdict:
        if self.value is None:
            return self.not_applied(None, found)
        # NaN is never good.
        good = found <= self.value if self.most else found >= self.value
        if math.isfinite(found) and good:
            return Verdict(self.gate, PASSED, found, self.allowed)
        found_ = found if math.isfinite(found) else str(found)
        return Verdict(self.gate, FAILED, found_, self.allowed, reason)
