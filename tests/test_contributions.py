"""What each item of a history adds to a vector: the rows add up to what fold-in makes."""

import numpy as np
import pytest

from recsys.kernel.contributions import history_parts
from recsys.kernel.fold_in import FoldIn, fold_in, with_features
from recsys.kernel.second_view import SecondView

N_ITEMS, OWN, SECOND = 30, 4, 6


def fitted(kind: str, items: np.ndarray, random: np.random.Generator) -> FoldIn:
    second = None
    if kind == "ease":
        second = SecondView(history=random.normal(size=(N_ITEMS, SECOND)).astype(np.float32))
    if kind == "als":
        factors = items[:, OWN:].astype(np.float64)
        gram = np.linalg.inv(factors.T @ factors + 0.5 * np.eye(SECOND)).astype(np.float32)
        second = SecondView(gram=gram, confidence=3.0, scale=0.7)
    matrix = random.normal(size=(OWN, OWN)).astype(np.float32)
    intercept = random.normal(size=OWN).astype(np.float32)
    return FoldIn("ridge", matrix, intercept, 0.5, 2.0, second)


@pytest.mark.parametrize("kind", ["none", "ease", "als"])
@pytest.mark.parametrize("n", [0, 1, 3, 20])
@pytest.mark.parametrize("described", [False, True])
def test_the_parts_of_a_folded_in_vector_add_up_to_it(kind: str, n: int, described: bool) -> None:
    random = np.random.default_rng(n)
    width = OWN if kind == "none" else OWN + SECOND
    items = random.normal(size=(N_ITEMS, width)).astype(np.float32)
    made = fitted(kind, items, random)
    liked = random.permutation(N_ITEMS)[:n].astype(np.int32)
    weights = random.uniform(0.2, 3.0, n).astype(np.float32)
    features = random.normal(size=width).astype(np.float32) if described else None
    indptr = np.array([0, n], np.int64)
    vector = fold_in(made, items, indptr, liked, weights)
    if features is not None:
        vector = with_features(vector, features[None], indptr, weights)
    parts = history_parts(made, items, liked, weights, features)
    np.testing.assert_array_equal(parts.items, np.sort(liked))
    np.testing.assert_allclose(parts.vector, vector[0], rtol=1e-5, atol=1e-5)


def test_an_item_that_is_like_the_wanted_one_adds_more_than_one_that_is_not() -> None:
    items = np.array([[1, 0], [0, 1], [1, 0.1]], np.float32)
    plain = FoldIn("mean", np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 1.0, 0.0)
    parts = history_parts(plain, items, np.array([1, 0], np.int32))
    np.testing.assert_allclose(parts.of_items @ items[2], [0.5, 0.05], rtol=1e-6)
