"""What is said of a search for the best epoch."""

import logging
from typing import Any

from recsys.config.sections import Training
from recsys.learn import negatives
from recsys.learn.sample_weights import Labelled

log = logging.getLogger(__name__)

# A learning rate with which the logistic loss does well on drawn negatives. With the default, which
# suits WARP, validation rises so late that early stopping ends the training before.
_LOGISTIC_RATE = 0.1


def log_search(report: dict[str, Any], pairs: Labelled, settings: Training) -> None:
    """Log what the search found, and warn if the settings do not suit it."""
    ndcg, popularity = report["ndcg"], report["popularity_ndcg"]
    used_negatives = negatives.report(pairs.labels, settings)
    log.info(
        "validation %s %.4f at epoch %d of %d (popularity %.4f)",
        report["metric"],
        ndcg,
        report["kept_epoch"],
        report["epochs"][-1],
        popularity,
    )
    if report["kept_epoch"] == settings.epochs:
        log.warning("the last epoch was the best: training.epochs (%d) is low", settings.epochs)
    drawn = used_negatives is not None and used_negatives["drawn_per_epoch"] > 0
    slow = settings.learning_schedule == "adagrad" and settings.learning_rate < _LOGISTIC_RATE
    if drawn and slow and ndcg < 1.1 * popularity:
        log.warning(
            "the logistic model is hardly better than popular items: with drawn negatives it "
            "learns slowly; raise training.learning_rate (now %g), %g is good",
            settings.learning_rate,
            _LOGISTIC_RATE,
        )
