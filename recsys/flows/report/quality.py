"""How good a run's lists are: the training curve, and metrics with intervals. No Spark."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recsys.columns import METRICS_SCHEMA, names
from recsys.evaluate.manifest import ALL, DIFFERENCE, HEADLINE, Metric
from recsys.flows.report.charts import Value
from recsys.flows.report.records import Records
from recsys.kernel.evaluate import POPULARITY
from recsys.kernel.worker import MODEL
from recsys.model.manifest import EarlyStoppingReport, TrainedModel

_BY_HISTORY = "history "


@dataclass(frozen=True)
class Curve:
    """How a metric went while the model was trained.

    Attributes:
        early: what early stopping has recorded.
        before: the metric of the model before at its best epoch; None where there is none that was
            measured in the same way.
        model_before: the id of that model.
    """

    early: EarlyStoppingReport
    before: float | None
    model_before: str | None


@dataclass(frozen=True)
class Row:
    """A metric or a segment: the model, popularity, their difference, and the evaluation before.

    Attributes:
        name: of the metric or the segment.
        k: the length of the lists; None for metrics of the whole catalogue.
        users: how many have a value.
        clear: whether 0 is outside of the difference's interval.
    """

    name: str
    k: int | None
    users: int
    model: Value
    popularity: Value
    difference: Value
    before: Value | None
    clear: bool


def curve(records: Records) -> Curve | None:
    """Return the training curve of a run; None without early stopping."""
    model = records.model
    if records.run.training is not None:
        early = records.run.training.early_stopping
    else:
        early = None if model is None else model.training.early_stopping
    if early is None:
        return None
    before = _model_before(records)
    other = None if before is None else before.training.early_stopping
    alike = other is not None and (other.metric, other.share) == (early.metric, early.share)
    if before is None or other is None or not alike:
        return Curve(early, None, None)
    return Curve(early, other.ndcg, before.model_id)


def _model_before(records: Records) -> TrainedModel | None:
    """Return the model that readers' lists were made with before, or that was gone on from."""
    version = records.before
    before = version.manifest.model if version is not None else None
    if before is None:
        before = records.model_of(records.run.base_model_id)
    mine = records.run.model_id
    return None if before is None or before.model_id == mine else before


def all_metrics(records: Records) -> list[Metric]:
    """Return the metrics of an evaluation with those of segments, as far as they can be read."""
    data = records.output("metrics")
    if data is None or not data.readable:
        return list(records.run.metrics or [])
    rows: list[Metric] = []
    for batch in data.batches(names(METRICS_SCHEMA)):
        rows += [Metric(**row) for row in batch.to_pylist()]
    return rows


def overall(metrics: Sequence[Metric], before: Sequence[Metric] | None) -> list[Row]:
    """Return every metric over all users."""
    chosen = [one for one in metrics if one.model == MODEL and one.segment == ALL]
    return [_row(one, one.metric, metrics, before) for one in chosen]


def by_segment(metrics: Sequence[Metric], *, history: bool) -> list[Row]:
    """Return the headline metric at the shortest lists, by length of history or by other groups."""
    mine = [
        one
        for one in metrics
        if one.model == MODEL
        and one.metric == HEADLINE
        and one.segment != ALL
        and one.segment.startswith(_BY_HISTORY) == history
    ]
    first = min((one.k for one in mine if one.k is not None), default=None)
    named = [one for one in mine if one.k == first]
    return [_row(one, one.segment.removeprefix(_BY_HISTORY), metrics, None) for one in named]


def _row(one: Metric, name: str, metrics: Iterable[Metric], before: Sequence[Metric] | None) -> Row:
    beside = {
        other.model: other
        for other in metrics
        if (other.segment, other.metric, other.k) == (one.segment, one.metric, one.k)
    }
    earlier = [
        other
        for other in before or ()
        if (other.model, other.segment, other.metric, other.k)
        == (MODEL, one.segment, one.metric, one.k)
    ]
    ahead = _value(beside.get(DIFFERENCE))
    return Row(
        name=name,
        k=one.k,
        users=one.n_users,
        model=_value(one),
        popularity=_value(beside.get(POPULARITY)),
        difference=ahead,
        before=_value(earlier[0]) if earlier else None,
        clear=ahead.low is not None
        and ahead.high is not None
        and (ahead.low > 0 or ahead.high < 0),
    )


def _value(metric: Metric | None) -> Value:
    return Value(None) if metric is None else Value(metric.value, metric.low, metric.high)
