"""Intervals of means: they cover, they pair, and no order of users changes them."""

import numpy as np
import pytest

from recsys.kernel import bootstrap


def test_an_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    covered, trials = 0, 300
    rng = np.random.default_rng(0)
    for trial in range(trials):
        values = rng.exponential(1.0, (200, 1))  # skewed, as metrics of users are
        found = bootstrap.estimate(np.arange(200), values, resamples=300, seed=trial)
        covered += bool(found.low[0] <= 1.0 <= found.high[0])
    assert 0.90 <= covered / trials <= 0.975


def test_the_interval_is_that_of_the_normal_approximation_for_many_users() -> None:
    values = np.random.default_rng(1).normal(0.3, 0.2, (5000, 1))
    found = bootstrap.estimate(np.arange(5000), values, resamples=2000, seed=1)
    half = 1.96 * values.std() / np.sqrt(5000)
    assert found.value[0] == pytest.approx(values.mean())
    assert found.high[0] - found.value[0] == pytest.approx(half, rel=0.1)
    assert found.value[0] - found.low[0] == pytest.approx(half, rel=0.1)


def test_users_are_drawn_with_replacement_as_many_as_there_are() -> None:
    times = bootstrap._times_drawn(np.random.default_rng(2), 4000, 5)
    assert times.shape == (4000, 5)
    assert (times.sum(axis=1) == 5).all()
    # Multinomial: of n draws of n users, one user has the variance 1 - 1/n, two the covariance
    # -1/n.
    covariance = np.cov(times.T)
    np.testing.assert_allclose(np.diag(covariance), 1 - 1 / 5, atol=0.06)
    np.testing.assert_allclose(covariance[0, 1:], -1 / 5, atol=0.06)


def test_the_difference_on_the_same_users_is_surer_than_the_two_apart() -> None:
    rng = np.random.default_rng(3)
    hard = rng.normal(0.3, 0.2, (800, 1))  # how hard a user is for any model
    first, second = hard + 0.02 + rng.normal(0, 0.02, hard.shape), hard
    ids, how = np.arange(800), {"resamples": 1000, "seed": 4}
    paired = bootstrap.difference(ids, first, second, **how)
    apart = [bootstrap.estimate(ids, values, **how) for values in (first, second)]
    assert paired.value[0] == pytest.approx(0.02, abs=0.003)
    assert paired.low[0] > 0.015  # sure, although the two intervals overlap
    assert apart[0].low[0] < apart[1].high[0]
    width = (apart[0].high - apart[1].low) - (apart[0].low - apart[1].high)
    assert (paired.high - paired.low)[0] < width[0] / 5


@pytest.mark.parametrize("kind", [np.int64, object])
def test_neither_the_order_of_users_nor_the_size_of_chunks_changes_a_bit(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    ids = rng.permutation(101)
    ids = ids.astype(kind) if kind is np.int64 else np.array([f"u{i}" for i in ids], object)
    values = rng.random((101, 3))
    expected = bootstrap.estimate(ids, values, resamples=50, seed=6)
    order = rng.permutation(101)
    found = bootstrap.estimate(ids[order], values[order], resamples=50, seed=6)
    for name in ("value", "low", "high", "n_users"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    other = bootstrap.estimate(ids, values, resamples=50, seed=7)
    assert not np.array_equal(other.low, expected.low)
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 300)
    chunked = bootstrap.estimate(ids, values, resamples=50, seed=6)
    np.testing.assert_allclose(chunked.low, expected.low, rtol=1e-12)


def test_who_has_no_value_does_not_count() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan], [np.nan, np.nan]])
    found = bootstrap.estimate(np.arange(4), values, resamples=200, seed=1)
    assert list(found.n_users) == [2, 0]
    assert found.value[0] == 2
    assert 1 <= found.low[0] <= 2 <= found.high[0] <= 3
    assert np.isnan([found.value[1], found.low[1], found.high[1]]).all()
    nobody = bootstrap.estimate(np.arange(0), np.empty((0, 1)), resamples=5, seed=1)
    assert np.isnan(nobody.value[0])
    alone = bootstrap.estimate(np.arange(1), np.array([[0.5]]), resamples=5, seed=1)
    assert (alone.low[0], alone.high[0]) == (0.5, 0.5)
    with pytest.raises(ValueError, match="expected"):
        bootstrap.estimate(np.arange(2), np.empty((3, 1)), resamples=5, seed=1)
