"""What an evaluation found, as lines of text for a terminal of 80 columns."""

from collections.abc import Sequence

from recsys.evaluate.manifest import ALL, DIFFERENCE, HEADLINE, Metric
from recsys.kernel.evaluate import POPULARITY
from recsys.kernel.worker import MODEL

_LINE = "{:<28}{:>6} {:>7} {:>7} {:>7}  {}"

_Key = tuple[str, str, int | None]


def lines(results: Sequence[Metric]) -> list[str]:
    """Tell all metrics over all users, then HEADLINE at the first k for each segment."""
    by_model = {
        model: {(r.segment, r.metric, r.k): r for r in results if r.model == model}
        for model in (MODEL, POPULARITY, DIFFERENCE)
    }
    overall = [key for key in by_model[MODEL] if key[0] == ALL]
    others = [key for key in by_model[MODEL] if key[0] != ALL and key[1] == HEADLINE]
    first = min((key[2] for key in others if key[2] is not None), default=None)
    n_users = max(r.n_users for r in results)
    told = ["", _LINE.format(f"{n_users:,} users", "k", "model", "popular", "differ.", "95 %")]
    for key in overall:
        told.append(_line(key[1], "" if key[2] is None else str(key[2]), by_model, key))
    title = f"{HEADLINE} at {first} of"
    told += ["", _LINE.format(title, "users", "model", "popular", "differ.", "95 %")]
    for key in others:
        if key[2] == first:
            told.append(_line(key[0], f"{by_model[MODEL][key].n_users:,}", by_model, key))
    return told


def _line(name: str, count: str, by_model: dict[str, dict[_Key, Metric]], key: _Key) -> str:
    model, popularity, ahead = (by_model[which][key] for which in (MODEL, POPULARITY, DIFFERENCE))
    interval = "" if ahead.low is None else f"[{_signed(ahead.low)}, {_signed(ahead.high)}]"
    name = name if len(name) <= 27 else name[:26] + "…"
    return _LINE.format(
        *(name, count, _plain(model.value), _plain(popularity.value)),
        *(_signed(ahead.value), interval),
    ).rstrip()


def _plain(value: float | None) -> str:
    """Four places; fewer for numbers of 10 and more, so that all have the same width."""
    return "" if value is None else f"{value:.{4 if abs(value) < 10 else 3}f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.{4 if abs(value) < 10 else 3}f}"
