"""Which features LightFM learns with, and the map for what has nothing else."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

from recsys.config.sections import EarlyStopping, Features, Training
from recsys.errors import TrainingError
from recsys.learn import feature_map
from recsys.learn.cold import mapped
from recsys.learn.described_fit import NO_GROUPS
from recsys.learn.feature_choice import fit_described
from recsys.learn.feature_trial import Parts, Trial
from recsys.learn.features import About, Abouts, Described, Feature
from recsys.learn.fitting import fit
from recsys.learn.sample_weights import Labelled
from recsys.model.features_report import FeatureTrials

GENRES = 4


def ids(n: int) -> pa.Array:
    return pa.array(np.arange(n, dtype=np.int32))


def by_genre(n: int, *, extra: int = 0, noise: int = 0) -> Described:
    """Describe n + extra ids by the remainder of the id; `noise`: groups that say nothing."""
    chance = np.random.default_rng(7)
    features = [Feature("genre", str(k), str(k), 1) for k in range(GENRES)]
    parts = [sp.csr_matrix(np.eye(GENRES, dtype=np.float32)[np.arange(n + extra) % GENRES])]
    for g in range(noise):
        features += [Feature(f"noise{g}", str(k), str(k), 1) for k in range(3)]
        drawn = chance.integers(0, 3, n + extra)
        parts.append(sp.csr_matrix(np.eye(3, dtype=np.float32)[drawn]))
    return Described(ids(n + extra), features, sp.hstack(parts, format="csr"))


def about(described: Described, n: int, **given: Any) -> About:
    weights = {feature.group: 1.0 for feature in described.features}
    settings = {"identity": True, "normalise": False, **given}
    return About(described, ids(n), weights, **settings)


def fans(n_users: int = 240, n_items: int = 80, seed: int = 1) -> sp.coo_matrix:
    """Users like items of their own genre."""
    chance = np.random.default_rng(seed)
    users, items = np.arange(n_users)[:, None], np.arange(n_items)
    likely = np.where(users % GENRES == items % GENRES, 0.5, 0.02)
    return sp.coo_matrix((chance.random((n_users, n_items)) < likely).astype(np.float32))


SETTINGS = Training.model_validate(
    {
        "no_components": 8,
        "epochs": 10,
        "learning_rate": 0.05,
        "sample_weights": {"rating": "none"},
        "early_stopping": {"patience": 4},
    }
)


# The map


def test_the_map_finds_the_embeddings_that_made_the_items() -> None:
    chance = np.random.default_rng(0)
    weights = sp.random(400, 12, density=0.3, format="csr", random_state=chance)
    sums = np.asarray(weights.sum(axis=1)).ravel()
    weights = sp.csr_matrix(sp.diags(np.where(sums > 0, 1 / np.maximum(sums, 1e-9), 0)) @ weights)
    truth = chance.normal(size=(12, 6)).astype(np.float32)
    made = (weights @ truth).astype(np.float32)
    found = feature_map.fit(weights, made[:, :5], made[:, 5], np.full(400, 1000), seed=1)
    assert found.penalty == min(feature_map.PENALTIES)
    assert found.explained > 0.95
    np.testing.assert_allclose(weights @ found.embeddings, made[:, :5], atol=0.15)
    np.testing.assert_allclose(weights @ found.biases, made[:, 5], atol=0.15)


@pytest.mark.parametrize("penalty", feature_map.PENALTIES)
def test_the_map_solves_the_normal_equations(penalty: float) -> None:
    chance = np.random.default_rng(1)
    x = sp.random(300, 40, density=0.1, format="csr", random_state=chance)
    y, reliable = chance.normal(size=(300, 5)), chance.random(300) + 0.1
    matrix = (x.T @ sp.diags(reliable) @ x).toarray() + penalty * np.eye(40)
    expected = np.linalg.solve(matrix, x.T @ (reliable[:, None] * y))
    np.testing.assert_allclose(
        feature_map._solve(x, y, reliable, penalty, 1e-9), expected, atol=1e-8
    )


def test_features_that_say_nothing_get_a_large_penalty_and_the_mean() -> None:
    chance = np.random.default_rng(2)
    weights = sp.csr_matrix(np.eye(5)[chance.integers(0, 5, 600)])
    noise = chance.normal(size=(600, 40)).astype(np.float32) + 3
    found = feature_map.fit(weights, noise, noise[:, 0], np.full(600, 50), seed=1)
    assert found.penalty == max(feature_map.PENALTIES)
    assert found.explained < 0.05
    np.testing.assert_allclose(found.embeddings, 3, atol=0.25)


def test_items_with_few_interactions_have_little_say() -> None:
    weights = sp.csr_matrix(np.ones((20, 1)))
    embeddings = np.repeat([[0.0], [1.0]], 10, axis=0).astype(np.float32)
    counts = np.repeat([1_000_000, 1], 10)
    found = feature_map.fit(weights, embeddings, embeddings[:, 0], counts, seed=1)
    # n / (n + 1) is 1 and a half.
    assert found.embeddings[0, 0] == pytest.approx(1 / 3, abs=1e-3)
    nobody = np.zeros(20, np.int64)
    with pytest.raises(TrainingError, match="features and interactions, found none"):
        feature_map.fit(weights, embeddings, embeddings[:, 0], nobody, seed=1)


def test_what_is_mapped_is_the_weighted_mean_of_its_features() -> None:
    known = about(by_genre(80, extra=6, noise=1), 80)
    chance = np.random.default_rng(3)
    embeddings = chance.normal(size=(80, 4)).astype(np.float32)
    found = mapped(known, embeddings, embeddings[:, 0], np.full(80, 9), seed=1)
    assert found.cold_ids.to_pylist() == list(range(80, 86))
    weights = known.described.weights[80:].toarray()
    assert weights.sum(axis=1).tolist() == [2] * 6
    expected = weights @ found.embeddings / 2
    np.testing.assert_allclose(found.cold_embeddings, expected, atol=1e-6)
    assert (found.way, found.normalised, found.identity) == ("mapped", True, False)


# What is held out


def test_users_and_items_are_held_out_with_all_their_pairs() -> None:
    labels = fans()
    abouts = Abouts(about(by_genre(240), 240), about(by_genre(80), 80))
    parts = Parts.of(Labelled(labels, None, None), abouts, 1)
    assert (len(parts.cold_users), len(parts.cold_items)) == (24, 8)
    dense, kept = labels.toarray(), parts.pairs.labels.toarray()
    assert not set(parts.users) & set(parts.cold_users)
    assert not set(parts.items) & set(parts.cold_items)
    assert np.array_equal(kept, dense[np.ix_(parts.users, parts.items)])
    assert np.array_equal(parts.liked_items.toarray(), dense[np.ix_(parts.users, parts.cold_items)])
    assert np.array_equal(parts.liked_by.toarray(), dense[np.ix_(parts.cold_users, parts.items)])


def test_only_what_has_features_and_interactions_is_held_out() -> None:
    labels = fans().toarray()
    labels[:, :40] = 0
    few = Described(
        ids(80), [Feature("g", "a", "a", 1)], sp.csr_matrix(np.arange(80)[:, None] >= 60)
    )
    abouts = Abouts(None, about(few, 80))
    parts = Parts.of(Labelled(sp.coo_matrix(labels), None, None), abouts, 1)
    assert len(parts.cold_users) == 0
    assert len(parts.cold_items) == 2
    assert (parts.cold_items >= 60).all()


def test_held_out_items_are_ranked_by_their_features() -> None:
    known = Abouts(about(by_genre(240), 240), about(by_genre(80), 80))
    stopping = SETTINGS.early_stopping or EarlyStopping()
    trial = Trial(Labelled(fans(), None, None), known, SETTINGS, stopping, 1)
    judged = trial.run(NO_GROUPS)
    # Of eight items a user likes about one in four.
    assert judged.cold_items["mapped"].mean() > 0.8
    assert judged.cold_users["mapped"].mean() > judged.popularity.mean() + 0.3
    inside = trial.run({"users": [], "items": ["genre"]})
    assert set(inside.cold_items) == {"mapped", "trained"}
    assert set(inside.cold_users) == {"mapped"}
    # The same users, and the same pairs.
    assert np.array_equal(judged.short, inside.short)


# What is kept


def measured(abouts: Abouts, **settings: Any) -> Any:
    features = Features.model_validate({"keep": "measured", **settings})
    return fit_described(fans(), SETTINGS, features, abouts, threads=1)


def test_groups_that_do_not_help_are_left_out_and_still_describe() -> None:
    abouts = Abouts(None, about(by_genre(80, extra=4, noise=2), 80))
    made = measured(abouts, margin=0.0)
    assert made.trial is not None
    record = FeatureTrials.model_validate(made.trial)
    assert made.items is not None
    if not made.groups["items"]:
        assert made.items.way == "mapped"
        assert "left out" in record.reason
    assert made.items.cold_ids.to_pylist() == [80, 81, 82, 83]
    assert record.trials[0].compared is None
    assert record.trials[0].groups.items == []
    assert record.trials[1].groups.items == ["genre", "noise0", "noise1"]
    assert record.held_out_items == 8


def test_harmful_groups_are_tried_alone_and_good_ones_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is tried and what is chosen, for given values of nDCG."""
    abouts = Abouts(None, about(by_genre(80, extra=4, noise=2), 80))
    ndcg = {
        "": 0.5,
        "genre,noise0,noise1": 0.3,
        "genre": 0.6,
        "noise0": 0.4,
        "noise1": 0.55,
        "genre,noise1": 0.62,
    }
    tried = []
    run = Trial.run

    def given(self: Trial, groups: Any) -> Any:
        judged = run(self, groups)
        name = ",".join(groups["items"])
        tried.append(name)
        warm = np.full(100, ndcg[name])  # no spread, so that every difference is clear
        return type(judged)(**{**vars(judged), "warm": warm, "short": np.ones(100, np.bool_)})

    monkeypatch.setattr(Trial, "run", given)
    made = measured(abouts)
    assert tried == list(ndcg)
    assert made.groups == {"users": [], "items": ["genre", "noise1"]}
    assert made.trial is not None
    assert "items.genre, items.noise1; items.noise0 left out" in made.trial["reason"]
    assert FeatureTrials.model_validate(made.trial).chosen is not None
    # One alone is kept where two together are no better.
    ndcg["genre,noise1"] = 0.45
    assert measured(abouts).groups["items"] == ["genre"]
    # Nothing is kept where everything harms.
    ndcg.update({"genre": 0.49, "noise1": 0.4})
    made = measured(abouts)
    assert made.groups == {"users": [], "items": []}


def test_without_a_group_inside_the_model_is_that_without_features() -> None:
    abouts = Abouts(None, about(by_genre(80, extra=4), 80))
    none = fit_described(fans(), SETTINGS, Features(keep="none"), abouts, threads=1)
    plain = fit(fans(), SETTINGS, threads=1)
    assert np.array_equal(none.fitted.embeddings.item_embeddings, plain.embeddings.item_embeddings)
    assert none.trial is None
    assert none.items is not None
    assert none.items.way == "mapped"


def test_users_get_popular_items_where_their_features_say_less() -> None:
    """Features of users who were drawn at random, and items that everybody likes."""
    chance = np.random.default_rng(5)
    popular = np.linspace(0.9, 0.02, 80)
    labels = sp.coo_matrix((chance.random((400, 80)) < popular).astype(np.float32))
    drawn = chance.integers(0, 100, 400)
    says_nothing = Described(
        ids(400),
        [Feature("g", f"{k:03}", f"{k:03}", 1) for k in range(100)],
        sp.csr_matrix(np.eye(100, dtype=np.float32)[drawn]),
    )
    settings = SETTINGS.model_copy(update={"epochs": 3})
    made = fit_described(
        labels, settings, Features(), Abouts(about(says_nothing, 400), None), threads=1
    )
    assert made.trial is not None
    nothing = made.trial["trials"][0]["ndcg_of_cold_users"]
    assert (made.users is None) == (nothing["mapped"] < nothing["popularity"])


def test_too_few_users_to_measure_by_are_said(caplog: pytest.LogCaptureFixture) -> None:
    abouts = Abouts(None, about(by_genre(20, extra=2), 20))
    made = fit_described(fans(12, 20), SETTINGS, Features(), abouts, threads=1)
    assert made.trial is not None
    assert "30 are the fewest to compare by" in made.trial["reason"]
    assert "LightFM learns without them" in caplog.text
    assert made.items is not None
    assert made.items.way == "mapped"


@pytest.mark.parametrize("refit", [True, False])
def test_a_measured_model_without_a_group_inside_is_the_one_without_features(refit: bool) -> None:
    nonsense = about(by_genre(80, noise=2).only(["noise0", "noise1"]), 80)
    stopping = EarlyStopping(patience=4, refit=refit)
    settings = SETTINGS.model_copy(update={"early_stopping": stopping})
    made = fit_described(fans(), settings, Features(), Abouts(None, nonsense), threads=1)
    assert made.groups["items"] == []
    plain = fit(fans(), settings, threads=1)
    for name in ("user_embeddings", "item_embeddings", "user_biases", "item_biases"):
        assert np.array_equal(
            getattr(made.fitted.embeddings, name), getattr(plain.embeddings, name)
        )
    for times in ("seconds", "training_seconds"):
        assert plain.report.pop(times)
        assert made.fitted.report.pop(times)
    assert made.fitted.report == plain.report


def test_groups_that_say_nothing_are_hardly_ever_kept() -> None:
    nonsense = by_genre(60, noise=4).only([f"noise{g}" for g in range(4)])
    kept = 0
    for seed in range(6):
        settings = SETTINGS.model_copy(
            update={"seed": seed, "epochs": 4, "early_stopping": EarlyStopping(patience=4)}
        )
        known = Abouts(None, about(nonsense, 60))
        made = fit_described(fans(160, 60, seed), settings, Features(), known, threads=1)
        kept += bool(made.groups["items"])
    assert kept <= 1


def test_a_group_with_which_training_fails_is_left_out() -> None:
    described = by_genre(80)
    described.weights.data *= 1e7
    made = measured(Abouts(None, about(described, 80)))
    assert made.groups["items"] == []
    assert made.trial is not None
    record = FeatureTrials.model_validate(made.trial)
    assert "diverged" in (record.trials[1].failed or "")
    assert made.items is not None
    assert made.items.way == "mapped"


def test_where_nothing_can_be_held_out_nothing_is_learned_with() -> None:
    """Each item has a single pair."""
    users = np.arange(80)
    labels = sp.coo_matrix((np.ones(80, np.float32), (users, users)), shape=(80, 80))
    settings = SETTINGS.model_copy(update={"early_stopping": None})
    made = fit_described(
        labels, settings, Features(), Abouts(None, about(by_genre(80), 80)), threads=1
    )
    assert made.trial is not None
    assert "hold some of them out" in made.trial["reason"]
    assert made.items is not None


@pytest.mark.parametrize("n", [1, 2, 9])
def test_a_handful_of_pairs_is_trained_on_without_measuring(n: int) -> None:
    labels = sp.coo_matrix(np.ones((n, n), np.float32))
    settings = SETTINGS.model_copy(update={"early_stopping": None, "epochs": 1})
    known = Abouts(about(by_genre(n, extra=1), n), about(by_genre(n, extra=1), n))
    made = fit_described(labels, settings, Features(), known, threads=1)
    assert made.trial is not None
    assert made.trial["trials"] == []
    assert made.items is not None


@pytest.mark.parametrize("keep", ["measured", "none"])
def test_features_of_what_nobody_likes_say_nothing(
    keep: str, caplog: pytest.LogCaptureFixture
) -> None:
    labels = fans()
    described = by_genre(80, extra=3)
    disliked = labels.col >= 76
    labels.data[disliked] = -1
    columns = np.zeros(83, bool)
    columns[76:] = True
    some = Described(
        described.ids,
        described.features,
        sp.csr_matrix(sp.diags(columns * 1.0) @ described.weights),
    )
    some.weights.eliminate_zeros()
    settings = SETTINGS.model_copy(update={"loss": "logistic", "learning_rate": 0.1})
    known = Abouts(None, about(some, 80))
    made = fit_described(
        labels, settings, Features.model_validate({"keep": keep}), known, threads=1
    )
    assert made.items is None
    assert "features say nothing" in caplog.text


def test_without_early_stopping_features_are_measured_all_the_same() -> None:
    abouts = Abouts(None, about(by_genre(80), 80))
    settings = SETTINGS.model_copy(update={"early_stopping": None})
    made = fit_described(fans(), settings, Features(), abouts, threads=1)
    assert made.trial is not None
    assert made.fitted.epochs == settings.epochs
    assert made.fitted.report == {}


def test_features_inside_several_trainings_are_mapped_to_their_joint_vectors() -> None:
    known = Abouts(None, about(by_genre(80), 80))
    settings = Training.model_validate(
        {**SETTINGS.model_dump(), "early_stopping": None, "members": {"a": {}, "b": {"seed": 2}}}
    )
    made = fit_described(fans(), settings, Features(keep="all"), known, threads=1)
    width = made.made.embeddings.item_embeddings.shape[1]
    assert width == 2 * settings.no_components
    assert made.items is not None
    assert made.items.way == "mapped"
    assert made.items.embeddings.shape[1] == width
