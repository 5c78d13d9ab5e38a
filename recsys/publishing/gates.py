"""Whether a staged result is good enough for readers to see.

Some gates always apply: they check what every reader relies on. Others have a limit in the
configuration, and null switches them off. A gate that cannot decide (too few users, nothing
published before) is not applied, and says why.
"""

from pyspark.sql import DataFrame, SparkSession

from recsys.columns import ITEM, USER, IdTypes
from recsys.config.sections import Gates
from recsys.model.manifest import EarlyStoppingReport, PairRules, TrainedModel
from recsys.publishing import checks, items
from recsys.publishing.checks import ByUser
from recsys.publishing.faults import Fault
from recsys.publishing.limits import NONE, Limit, faultless, few, not_applied
from recsys.publishing.manifest import Verdict
from recsys.publishing.overlap import overlap
from recsys.publishing.subject import Previous, Subject

# Rules that must be the same for validation metrics to be compared, and their keys.
_COMPARED_RULES = {
    "deduplication": "deduplication.policy",
    "rating_threshold": "filters.rating_threshold",
    "weighed_by_rating": "weighing by rating",
    "min_user_interactions": "filters.min_user_interactions",
    "min_item_interactions": "filters.min_item_interactions",
}


def judge_lists(spark: SparkSession, subject: Subject, settings: Gates) -> list[Verdict]:
    """Judge statuses and lists by themselves.

    Raises:
        InputError: a source of `items` cannot be read any more.
    """
    cold = subject.cold.ids if subject.cold is not None and subject.n_cold else None
    found = checks.by_user(
        subject.lists,
        subject.statuses,
        subject.asked,
        subject.k,
        cold=cold,
        apart=subject.places > 0,
    )
    return [
        faultless("statuses", found.statuses),
        faultless("lists", found.lists),
        faultless("finite", {"scores that are no finite number": found.not_finite}),
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


def _seen(subject: Subject) -> Verdict:
    if not subject.exclude_seen:
        return not_applied("seen", NONE, "scoring.exclude_seen is false")
    fault = checks.among(subject.lists, subject.seen)
    return faultless("seen", {"items that their user has interacted with": fault})


def _by_item(
    spark: SparkSession, subject: Subject, users: ByUser, settings: Gates
) -> list[Verdict]:
    described = items.described_users(subject.statuses) if users.described else None
    per_item = items.per_item(subject.lists, described).persist()
    try:
        cold = None if subject.cold is None else subject.cold.ids
        found = items.by_item(per_item, cold, cold_on_top=subject.cold_choice)
        faults = _unwanted(spark, subject, per_item)
    finally:
        per_item.unpersist()
    if cold is not None and not subject.n_cold:
        faults["items that have nothing but features"] = found.cold
    return [
        faultless("filtered", faults)
        if faults
        else not_applied("filtered", NONE, "items has no allow, deny or candidates"),
        _coverage(subject, users, found, settings),
        _top_item(subject, users, found, settings),
        _cold_items(subject, users, found, settings),
    ]


def _unwanted(spark: SparkSession, subject: Subject, per_item: DataFrame) -> dict[str, Fault]:
    """Look for what the lists of items exclude, as far as they are configured."""
    wanted, faults = subject.items, {}
    for key, chosen, what in (
        ("allow", wanted.allow, "outside items.allow"),
        ("deny", wanted.deny, "of items.deny"),
    ):
        if chosen is not None:
            faults[f"items {what}"] = items.outside_list(
                spark,
                per_item,
                chosen,
                f"items.{key}",
                item_type=subject.id_types.item,
                denied=key == "deny",
            )
    if wanted.candidates is not None:
        faults["items that are no candidates of their user"] = items.outside_candidates(
            spark,
            subject.lists,
            wanted.candidates,
            subject.id_types,
        )
    return faults


def _coverage(subject: Subject, users: ByUser, found: items.ByItem, settings: Gates) -> Verdict:
    limit = Limit("coverage", "min_coverage", settings.min_coverage)
    why_not = _few_own(users, settings)
    if subject.items.candidates is not None:
        why_not = "items.candidates decides"
    if limit.value is None or why_not:
        return limit.not_applied(why_not)
    possible = min(subject.n_catalogue, found.own_rows)
    reason = f"{found.own_items:,} different items of {possible:,} possible ones"
    return limit.judge(found.own_items / possible, reason)


def _top_item(subject: Subject, users: ByUser, found: items.ByItem, settings: Gates) -> Verdict:
    limit = Limit("top_item", "max_top_item", settings.max_top_item, most=True)
    why_not = _few_own(users, settings) or subject.too_little_choice
    if limit.value is None or why_not:
        return limit.not_applied(why_not)
    reason = f"item {found.top_item} is in {found.top:,} of {users.own:,} lists"
    return limit.judge(found.top / users.own, reason)


def _cold_items(subject: Subject, users: ByUser, found: items.ByItem, settings: Gates) -> Verdict:
    limit = Limit("cold_items", "max_cold_items", settings.max_cold_items, most=True)
    if not subject.n_cold:
        return limit.not_applied("every item that may be recommended has interactions")
    share = found.cold_rows / found.personal_rows if found.personal_rows else None
    why_not = few(users.personal, settings)
    if subject.places:
        why_not = "features.cold_items decides"
    elif subject.items.candidates is not None:
        why_not = "items.candidates decides"
    if share is None or why_not:
        return limit.not_applied(why_not, share)
    rows = f"{found.cold_rows:,} of {found.personal_rows:,} rows of lists made with the model"
    return limit.judge(share, f"{rows} have items with nothing but features")


def _few_own(users: ByUser, settings: Gates) -> str | None:
    """Say that there are too few lists of users who have a vector by what they did."""
    return few(users.own, settings, ", by more than features alone" if users.described else "")


def _full_lists(subject: Subject, users: ByUser, settings: Gates) -> Verdict:
    limit = Limit("full_lists", "min_full_lists", settings.min_full_lists)
    why_not = None if users.users else "nobody with a valid id was asked for"
    if subject.items.candidates is not None:
        why_not = "items.candidates decides"
    if limit.value is None or why_not:
        return limit.not_applied(why_not)
    full = users.full
    if full < users.users:
        done = subject.seen if subject.exclude_seen else None
        full = checks.complete(
            subject.lists,
            subject.asked,
            done,
            subject.k,
            subject.n_catalogue,
            n_popular=subject.n_catalogue - subject.n_cold,
        )
    reason = f"{full:,} of {users.users:,} users have {subject.k} items, or all that they can have"
    return limit.judge(full / users.users, reason)


def _overlap(subject: Subject, previous: Previous | None, settings: Gates) -> list[Verdict]:
    low = Limit("overlap", "min_overlap", settings.min_overlap)
    high = Limit("frozen", "max_overlap", settings.max_overlap, most=True)
    why_not = subject.too_little_choice
    if previous is None:
        why_not = "nothing was published before"
    elif _types(previous.lists) != subject.id_types:
        why_not = f"run {previous.run_id} has ids of other types"
    if previous is None or why_not or (low.value is None and high.value is None):
        return [low.not_applied(why_not), high.not_applied(why_not)]
    found = overlap(subject.lists, previous.lists, subject.apart)
    why_not = few(found.users, settings, " that run " + previous.run_id + " has as well")
    if why_not or found.mean is None:
        return [low.not_applied(why_not), high.not_applied(why_not)]
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
    sample = () if model.sample is None else (model.sample.users, model.sample.pairs)
    return (*pairs, counts.users_in_training, counts.items_in_training, *sample)


def _popularity(model: TrainedModel, settings: Gates) -> Verdict:
    limit = Limit("popularity", "min_to_popularity", settings.min_to_popularity)
    report = model.training.early_stopping
    if report is None:
        return limit.not_applied("the model was trained without early stopping")
    ndcg, reached = report.ndcg, report.popularity_ndcg
    if not reached:
        return limit.not_applied("popularity finds nothing of what was held out")
    return limit.judge(ndcg / reached, f"{report.metric} {ndcg:.4f}, popularity {reached:.4f}")


def _published(model: TrainedModel, previous: Previous | None, settings: Gates) -> Verdict:
    limit = Limit("published", "min_to_published", settings.min_to_published)
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
    if (share := model.training.sample_share) != previous.model.training.sample_share:
        return limit.not_applied(
            f"{whose} was trained on {previous.model.training.sample_share:g} of its users, and "
            f"this one on {share:g}"
        )
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
