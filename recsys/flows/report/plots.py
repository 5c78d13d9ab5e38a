"""Which plots a page has, from what was found."""

from typing import Any

from markupsafe import Markup

from recsys.flows.report import charts
from recsys.flows.report.charts import Series, Value
from recsys.flows.report.lists import Popularity, Scores
from recsys.flows.report.page import Page
from recsys.flows.report.quality import Curve, Row


def plots(page: Page) -> dict[str, Markup]:
    """Draw everything that a page has data for, by name."""
    found: dict[str, Markup] = {}
    if page.curve is not None and page.curve.early.epochs:
        found["curve"] = _curve(page.curve)
    if page.by_history:
        found["by_history"] = _history(page.by_history)
    if page.popularity is not None:
        found |= _popularity(page.popularity)
    if page.scores is not None:
        found |= _scores(page.scores)
    return found


def overlap_plot(change: dict[str, Any]) -> Markup:
    """Draw how many users have how much in common with their lists of before."""
    spread = change["overlap"][-1]  # of whole lists
    return charts.histogram(
        "overlap",
        "Number of users by the share of their items that stayed, in ten steps.",
        spread["edges"],
        spread["counts"],
        x_title="share of the user's items that stayed",
        percent=True,
    )


def _curve(curve: Curve) -> Markup:
    early = curve.early
    ends = (early.epochs[0], early.epochs[-1])
    series = [Series("this model", list(zip(early.epochs, early.curve, strict=True)))]
    series.append(Series("popular items", [(x, early.popularity_ndcg) for x in ends], dashed=True))
    if curve.before is not None:
        series.append(Series("the model before", [(x, curve.before) for x in ends], dashed=True))
    about = (
        f"{early.metric} by epoch: best {early.ndcg:.4f} at epoch {early.kept_epoch}; "
        f"popular items {early.popularity_ndcg:.4f}."
    )
    return charts.lines("curve", about, series, x_title="epoch", dots=len(early.epochs) < 40)


def _history(rows: list[Row]) -> Markup:
    return charts.bars(
        "by-history",
        "nDCG of the model and of popularity by length of history; the table beside has it.",
        [row.name for row in rows],
        [
            Series("model", [row.model for row in rows]),
            Series("popularity", [row.popularity for row in rows]),
        ],
        x_title="items in the history",
    )


def _popularity(found: Popularity) -> dict[str, Markup]:
    in_lists = ", ".join(
        f"{name} {share:.0%}" for name, share in zip(found.groups, found.places, strict=True)
    )
    return {
        "groups": charts.bars(
            "groups",
            f"Share of the places in lists by how much an item is liked: {in_lists}.",
            found.groups,
            [
                Series("of places in lists", [Value(share) for share in found.places]),
                Series("of likes", [Value(share) for share in found.pairs]),
            ],
            x_title="items, the most liked ones first",
            percent=True,
        ),
        "curve_of_items": charts.lines(
            "items",
            "Share of all places in lists, and of all likes, that the most frequent items have.",
            [
                Series("places in lists", found.curve[0]),
                Series("likes", found.curve[1]),
            ],
            x_title="share of all items, the most frequent first",
            percent="xy",
        ),
    }


def _scores(found: Scores) -> dict[str, Markup]:
    spread = (("highest tenth", found.high), ("middle", found.middle), ("lowest tenth", found.low))
    return {
        "ranks": charts.lines(
            "ranks",
            f"Score by rank: the middle goes from {found.middle[0]:.3g} to {found.middle[-1]:.3g}.",
            [
                Series(name, list(zip(found.ranks, values, strict=True)), dashed=name != "middle")
                for name, values in spread
            ],
            x_title="rank",
            dots=len(found.ranks) < 30,
        ),
        "scores": charts.histogram(
            "scores",
            f"Histogram of the scores, from {found.edges[0]:.3g} to {found.edges[-1]:.3g}.",
            found.edges,
            found.counts,
            x_title="score",
        ),
    }
