"""Whether a staged result is good enough for readers to see.

Some gates always apply: they check what every reader relies on. Others have a limit in the
configuration, and null switches them off. A gate that cannot decide (too few users, nothing
published before) is not applied, and says why.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from recsys.columns import ITEM, USER, IdTypes
from recsys.config.sections import Gates, Items
from recsys.model.manifest import EarlyStoppingReport, PairRules, TrainedModel
from recsys.publishing import checks
from recsys.publishing.checks import ByUser, Fault
from recsys.publishing.manifest import State, Verdict
from recsys.publishing.overlap import overlap

PASSED: State = "passed"
FAILED: State = "failed"
NOT_APPLIED: State = "not applied"

_NONE = "0"
# With fewer items to choose from, for each place in a list, any two lists have much in common.
_LEAST_CHOICE = 10
# Rules that must be the same for validation metrics to be compared, and their keys.
_COMPARED_RULES = {
    "deduplication": "deduplication.policy",
    "rating_threshold": "filters.rating_threshold",
    "weighed_by_rating": "weighing by rating",
    "min_user_interactions": "filters.min_user_interactions",
    "min_item_interactions": "filters.min_item_interactions",
}


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
        id_types: of the ids.
        model: where the model comes from.
    """

    lists: DataFrame
    statuses: DataFrame
    asked: DataFrame
    pairs: Sequence[DataFrame]
    items: Items
    k: int
    exclude_seen: bool
    n_catalogue: int
    id_types: IdTypes
    model: TrainedModel

    @property
    def seen(self) -> DataFrame:
        """What users have seen: `user_id` and `item_id`."""
        return checks.seen_pairs(self.pairs, self.asked, self.id_types.item)

    @property
    def too_little_choice(self) -> str | None:
        """Why there is too little choice to compare lists; None where there is enough."""
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
        model: where its model comes from.
    """

    run_id: str
    lists: DataFrame
    model: TrainedModel


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


def _not_applied(gate: str, allowed: str, reason: str, found: float | None = None) -> Verdict:
    return Verdict(gate=gate, state=NOT_APPLIED, found=found, allowed=allowed, reason=reason)


def _faultless(gate: str, faults: Mapping[str, Fault]) -> Verdict:
    wrong = {kind: fault for kind, fault in faults.items() if fault.count}
    if not wrong:
        return Verdict(gate=gate, state=PASSED, found=0, allowed=_NONE)
    told = [f"{fault.count:,} {kind}, such as {fault.example}" for kind, fault in wrong.items()]
    return Verdict(
        gate=gate,
        state=FAILED,
        found=sum(fault.count for fault in wrong.values()),
        allowed=_NONE,
        reason="; ".join(told),
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
                    item_type=subject.id_types.item,
                    denied=key == "deny",
                )
    finally:
        items.unpersist()
    if wanted.candidates is not None:
        faults["items that are no candidates of their user"] = checks.outside_candidates(
            spark,
            subject.lists,
            wanted.candidates,
            subject.id_types,
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
    elif _types(previous.lists) != subject.id_types:
        why_not = f"run {previous.run_id} has ids of other types"
    if previous is None or why_not or (low.value is None and high.value is None):
        return [low.not_applied(why_not), high.not_applied(why_not)]
    found = overlap(subject.lists, previous.lists)
    few = _few(found.users, settings, " that run " + previous.run_id + " has as well")
    if few or found.mean is None:
        return [low.not_applied(few), high.not_applied(few)]
    reason = f"with run {previous.run_id}, over {found.users:,} users"
    unchanged = _trained_on(subject.model) == _trained_on(previous.model)
    same = f"the model was trained on as many pairs as that of run {previous.run_id}"
    return [
        low.judge(found.mean, reason),
        high.not_applied(same, found.mean) if unchanged else high.judge(found.mean, reason),
    ]


def _types(lists: DataFrame) -> IdTypes:
    user, item = (lists.schema[name].dataType.simpleString() for name in (USER, ITEM))
    return IdTypes(user, item)


def _trained_on(model: TrainedModel) -> tuple[int, ...]:
    """Return counts that differ when a model was trained on other interactions."""
    counts = model.counts
    pairs = (counts.positive_pairs, counts.negative_pairs)
    return (*pairs, counts.users_in_training, counts.items_in_training)


def _popularity(model: TrainedModel, settings: Gates) -> Verdict:
    limit = _Limit("popularity", "min_to_popularity", settings.min_to_popularity)
    report = model.training.early_stopping
    if report is None:
        return limit.not_applied("the model was trained without early stopping")
    ndcg, reached = report.ndcg, report.popularity_ndcg
    if not reached:
        return limit.not_applied("popularity finds nothing of what was held out")
    return limit.judge(ndcg / reached, f"{report.metric} {ndcg:.4f}, popularity {reached:.4f}")


def _published(model: TrainedModel, previous: Previous | None, settings: Gates) -> Verdict:
    limit = _Limit("published", "min_to_published", settings.min_to_published)
    if previous is None:
        return limit.not_applied("nothing was published before")
    now, then = model.training.early_stopping, previous.model.training.early_stopping
    whose = f"the model of run {previous.run_id}"
    if now is None or then is None:
        lacking = "the model" if now is None else whose
        return limit.not_applied(f"{lacking} was trained without early stopping")
    if model.model_id == previous.model.model_id:
        return limit.not_applied(f"run {previous.run_id} has the same model")
    if other := _measured_otherwise(model.pair_rules, now, previous.model.pair_rules, then):
        return limit.not_applied(f"{whose} was measured otherwise ({other})")
    if not then.ndcg:
        return limit.not_applied(f"{whose} found nothing of what was held out")
    reason = f"{now.metric} {now.ndcg:.4f}, in run {previous.run_id} {then.ndcg:.4f}"
    return limit.judge(now.ndcg / then.ndcg, reason)


def _measured_otherwise(
    rules: PairRules,
    report: EarlyStoppingReport,
    other_rules: PairRules,
    other_report: EarlyStoppingReport,
) -> str | None:
    """Return why two models' validation metrics cannot be compared; None where they can."""
    if report.metric != other_report.metric:
        return f"its metric is {other_report.metric}"
    if report.share != other_report.share:
        return f"training.early_stopping.share was {other_report.share}"
    for name, key in _COMPARED_RULES.items():
        if getattr(rules, name) != getattr(other_rules, name):
            return f"{key} was {getattr(other_rules, name)}"
    return None


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
            return Verdict(gate=self.gate, state=PASSED, found=found, allowed=self.allowed)
        return Verdict(
            gate=self.gate,
            state=FAILED,
            found=found if math.isfinite(found) else str(found),
            allowed=self.allowed,
            reason=reason,
        )
