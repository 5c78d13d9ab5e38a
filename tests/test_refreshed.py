"""What a refresh makes of a model, by hand: no Spark."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from recsys.columns import IdTypes
from recsys.kernel.fold_in import plain_mean
from recsys.kernel.second_view import SecondView
from recsys.learn.features import Described, Feature
from recsys.learn.matrices import Interactions
from recsys.model.arrays import FeatureVectors, Vectors
from recsys.model.by_features import by_features
from recsys.model.features_report import DescribedCounts
from recsys.model.refreshed import BaseModel, Refreshed


def liked(pairs: list[tuple[str, str]]) -> Interactions:
    users, items = (sorted({pair[n] for pair in pairs}) for n in (0, 1))
    labels = np.zeros((len(users), len(items)), np.float32)
    for user, item in pairs:
        labels[users.index(user), items.index(item)] = 1
    return Interactions(pa.array(users), pa.array(items), sp.coo_matrix(labels), None)


def base(**more: object) -> BaseModel:
    """A model of three items on a line."""
    items = Vectors(
        pa.array(["a", "c", "e"]),
        np.array([[1], [2], [4]], np.float32),
        np.array([10, 20, 40], np.float32),
        np.array([True, True, False]),
        np.array([9, 9, 0], np.int32),
    )
    half = plain_mean(1)
    object.__setattr__(half, "bias_scale", 0.5)
    return BaseModel(items, half, IdTypes("string", "string"), 0.25, **more)  # type: ignore[arg-type]


def about(*, normalised: bool, identity: bool) -> DescribedCounts:
    return DescribedCounts(
        way="mapped",
        inside=[],
        features=2,
        untrained_features=0,
        identity=identity,
        identities=0,
        cold=0,
        undescribed=0,
        weights={"kind": 0.5, "size": 2.0},
        edges={},
        normalised=normalised,
        explained=None,
    )


def features(*, normalised: bool = True, identity: bool = False) -> FeatureVectors:
    return FeatureVectors(
        ["kind=x", "size=y"],
        ["kind", "size"],
        ["X", "Y"],
        [3, 4],
        np.array([[8], [16]], np.float32),
        np.array([1, 2], np.float32),
        about(normalised=normalised, identity=identity),
    )


def described(**weights: list[float]) -> Described:
    """Describe ids by a feature that the model has not, then `kind=x` and `size=y`."""
    return Described(
        pa.array(sorted(weights)),
        [
            Feature("kind", "unknown", "?", 1),
            Feature("kind", "x", "x", 1),
            Feature("size", "y", "y", 1),
        ],
        sp.csr_matrix(np.array([weights[one] for one in sorted(weights)], np.float32)),
    )


def test_users_are_means_of_what_they_like_by_now() -> None:
    pairs = [("u", "a"), ("u", "e"), ("v", "c"), ("w", "c"), ("w", "new"), ("x", "new")]
    found = Refreshed.of(base(), liked(pairs))
    users, items = found.learned.users, found.learned.items
    assert users.ids.to_pylist() == ["u", "v", "w"]
    assert users.embeddings.ravel().tolist() == [2.5, 2, 2]
    assert users.biases.tolist() == [0.25] * 3
    assert users.trained.all()
    assert items.ids.to_pylist() == ["a", "c", "e"]
    assert items.embeddings.ravel().tolist() == [1, 2, 4]
    assert items.biases.tolist() == [5, 10, 20]
    assert items.positives is not None
    assert items.positives.tolist() == [1, 2, 1]
    assert items.trained.tolist() == [True, True, False]
    assert found.learned.fold_in.bias_scale == 1
    counted = (found.pairs, found.users, found.users_left_out)
    assert counted == (4, 3, 1)
    assert (found.new_items, found.waiting_items, found.waiting_pairs) == (0, 1, 2)


def test_new_items_are_sums_of_their_features_and_can_be_liked() -> None:
    """Scaled: (0.5 * 8 + 2 * 16) / 2.5; that of another feature alone waits."""
    model = base(item_features=features())
    found = Refreshed.of(
        model, liked([("u", "a"), ("u", "d")]), described(b=[1, 0, 0], d=[1, 1, 1])
    )
    items = found.learned.items
    assert items.ids.to_pylist() == ["a", "c", "d", "e"]
    np.testing.assert_allclose(items.embeddings.ravel(), [1, 2, 14.4, 4], rtol=1e-6)
    # (0.5 * 1 + 2 * 2) / 2.5 = 1.8, and half of it as of all biases.
    np.testing.assert_allclose(items.biases, [5, 10, 0.9, 20], rtol=1e-6)
    assert items.trained.tolist() == [True, True, False, False]
    np.testing.assert_allclose(found.learned.users.embeddings, [[7.7]], rtol=1e-6)
    assert (found.new_items, found.waiting_items) == (1, 0)
    written = found.learned.item_features
    assert written is not None
    assert written.biases.tolist() == [0.5, 1]
    assert [feature.name for feature in written.features] == ["kind=x", "size=y"]


def test_users_with_features_are_those_who_like_nothing_or_a_mixture() -> None:
    """A user's features count as three items do."""
    model = base(user_features=features())
    found = Refreshed.of(
        model, liked([("u", "a"), ("v", "a")]), None, described(u=[0, 1, 0], z=[0, 1, 0])
    )
    users = found.learned.users
    assert users.ids.to_pylist() == ["u", "v", "z"]
    np.testing.assert_allclose(users.embeddings.ravel(), [(1 + 3 * 8) / 4, 1, 8])
    np.testing.assert_allclose(users.biases, [0.25, 0.25, 1])  # their features' own, not scaled
    assert users.trained.tolist() == [True, True, False]


def test_many_at_once_are_what_each_is_alone() -> None:
    some = described(a=[1, 0, 0], b=[0, 2, 1], c=[0, 0, 3], d=[5, 1, 0])
    for normalised, identity in ((True, False), (True, True), (False, True)):
        known = features(normalised=normalised, identity=identity)
        vectors, biases, there = by_features(known, some, pa.array(["c", "b", "a", "zz", "d"]))
        assert there.tolist() == [True, True, False, False, True]
        for row, own in ((0, {"size=y": 3.0}), (1, {"kind=x": 2.0, "size=y": 1.0})):
            alone = known.represent(own)
            assert alone is not None
            np.testing.assert_allclose(vectors[row], alone[0], rtol=1e-6)
            np.testing.assert_allclose(biases[row], alone[1], rtol=1e-6)
        assert not vectors[2:4].any()


def test_the_second_part_is_made_of_what_each_item_adds_and_new_items_add_nothing() -> None:
    """A column of LightFM and one of a second view; `d` comes in by its features."""
    history = np.array([[3], [5], [0]], np.float32)
    wide = base()
    items = replace(
        wide.items,
        embeddings=np.array([[1, 7], [2, 8], [4, 9]], np.float32),
        history=history,
    )
    made_of = replace(wide.fold_in, second=SecondView(history=history))
    of_features = replace(features(), embeddings=np.array([[8, 80], [16, 160]], np.float32))
    model = replace(wide, items=items, fold_in=made_of, item_features=of_features)
    pairs = liked([("u", "a"), ("u", "c"), ("u", "d"), ("v", "d")])
    found = Refreshed.of(model, pairs, described(d=[1, 1, 1])).learned
    assert found.items.ids.to_pylist() == ["a", "c", "d", "e"]
    assert found.items.history is not None
    assert found.items.history.ravel().tolist() == [3, 5, 0, 0]
    assert found.fold_in.second is not None
    assert found.fold_in.second.history is found.items.history
    np.testing.assert_allclose(found.users.embeddings, [[17.4 / 3, 8], [14.4, 0]], rtol=1e-6)
