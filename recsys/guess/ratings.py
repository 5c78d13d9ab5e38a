"""What ratings mean: their scale, what is positive, and what becomes of repeated pairs."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from recsys.guess import names

# Scales by their highest value, each with what is positive.
_SCALES = {5.0: 4.0, 10.0: 6.0, 100.0: 60.0}
_MOST_PIECES = 100  # in a purchase of something that is sold by the piece


@dataclass(frozen=True)
class Scale:
    """The scale of ratings.

    Attributes:
        kind: `opinion` on a scale; `amount` of something bought or played, which adds up; `same`
            where all are alike.
        low: the lowest rating of the scale, where it is known.
        high: the highest.
        threshold: ratings from here on are positive; None where all are.
        policy: what becomes of repeated pairs if there are no times.
        note: what was found, for people.
        unsure: what may be wrong, or empty.
    """

    kind: Literal["opinion", "amount", "same"]
    low: float | None
    high: float | None
    threshold: float | None
    policy: str
    note: str
    unsure: str = ""


def scale(numbers: np.ndarray, name: str | None) -> Scale:
    """Return the scale of some ratings.

    Args:
        numbers: the ratings.
        name: of their column; None where it has no name of its own.
    """
    low, high = float(numbers.min()), float(numbers.max())
    found = f"from {low:g} to {high:g}"
    if low == high:
        return Scale("same", None, None, None, "max", f"all are {low:g}")
    if _is_amount(numbers, name):
        return _amount(numbers, name or "", found)
    return _opinion(numbers, low, high, found)


def _is_amount(numbers: np.ndarray, name: str | None) -> bool:
    if name is not None:
        of_opinion = names.says(name, names.RATINGS)
        of_amount = names.says(name, names.COUNTS)
        if max(of_opinion, of_amount) > 0.15:
            return of_amount > of_opinion
    # Opinions have an end; amounts have ever fewer of ever higher ones.
    return bool(numbers.max() > 100 or numbers.max() > 20 * max(np.median(numbers), 1.0))


def _amount(numbers: np.ndarray, name: str, found: str) -> Scale:
    negative = float(np.mean(numbers < 0))
    if negative > 0:
        note = f"{found}; {_percent(negative)} are negative, as returns are, and are subtracted"
        return Scale("amount", None, None, 1.0, "sum", note)
    if numbers.max() > _MOST_PIECES and names.says(name, {"quantity", "qty", "units", "amount"}):
        note = f"{found}; the column is left out"
        unsure = (
            f"{name} goes up to {numbers.max():g}, so a pair counts by its number of rows; to add "
            f"it up, set input.columns.rating to {name} and deduplication.policy to sum"
        )
        return Scale("amount", None, None, None, "count", note, unsure)
    return Scale("amount", None, None, None, "sum", f"{found}; they add up")


def _opinion(numbers: np.ndarray, low: float, high: float, found: str) -> Scale:
    unsure = ""
    if set(np.unique(numbers)) <= {-1.0, 0.0, 1.0}:
        return Scale("opinion", None, None, 1.0, "max", found)
    top = next((one for one in _SCALES if high <= one and (low >= 0)), None)
    if top is not None and high > top / 2:
        threshold, ends = (
            _SCALES[top],
            (0.0 if (low < 1 and top != 5) or low == 0 else min(low, 1.0), top),
        )
    elif low < 0 < high:
        end = max(-low, high)
        ends = (-float(np.ceil(end)), float(np.ceil(end)))
        threshold = float(np.ceil(end)) / 5
    else:
        threshold = float(np.quantile(numbers, 0.5))
        return Scale(
            "opinion", None, None, threshold, "max", found,
            f"ratings from {threshold:g} on, which is half of them, are taken for positive",
        )  # fmt: skip
    share = float(np.mean(numbers >= threshold))
    if share < 0.1:
        threshold = float(np.quantile(numbers, 0.7))
        unsure = f"few ratings are high, so those from {threshold:g} on are taken for positive"
        share = float(np.mean(numbers >= threshold))
    note = f"{found}; {_percent(share)} are {threshold:g} or more"
    return Scale("opinion", *ends, threshold, "max", note, unsure)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.2%}"
