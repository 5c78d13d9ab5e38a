"""The second view: EASE and ALS as factors, and the vectors of users who are new."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config.sections import EarlyStopping, SampleWeights, Training
from recsys.kernel.fold_in import FoldIn, fold_in, plain_mean
from recsys.kernel.second_view import SecondView
from recsys.kernel.topk import KernelError
from recsys.learn import als, assembly, ease, known_users, second_view
from recsys.learn.embeddings import Embeddings
from recsys.learn.fold_in_candidates import Candidate
from recsys.learn.second_view import Second
from recsys.learn.side_by_side import factor, join, spread


def pairs(
    n_users: int = 60, n_items: int = 25, share: float = 0.25, seed: int = 0
) -> sp.csr_matrix:
    """Random positive pairs, at least one for each user and item."""
    rng = np.random.default_rng(seed)
    dense = rng.random((n_users, n_items)) < share
    dense[np.arange(n_users), np.arange(n_users) % n_items] = True
    dense[np.arange(n_items) % n_users, np.arange(n_items)] = True
    return sp.csr_matrix(dense.astype(np.float32))


def dense_ease(matrix: sp.csr_matrix, ridge: float) -> np.ndarray:
    """Steck 2019, equation 8, as it is written there."""
    gram = (matrix.T @ matrix).toarray().astype(np.float64) + ridge * np.eye(matrix.shape[1])
    inverse = np.linalg.inv(gram)
    return np.eye(len(inverse)) - inverse / np.diag(inverse)


@pytest.mark.parametrize("way", ["items", "users"])
def test_ease_with_all_factors_predicts_as_the_paper(way: ease.Way) -> None:
    matrix = pairs()
    history, items = ease.factorise(matrix, 5.0, 25, way, seed=1)
    assert history.shape == items.shape == (25, 25)
    expected = matrix @ dense_ease(matrix, 5.0)
    assert np.allclose((matrix @ history) @ items.T, expected, atol=2e-4)


@pytest.mark.parametrize("shape", [(60, 25), (20, 45)])
def test_both_exact_ways_give_the_same_predictions_at_a_low_rank(shape: tuple[int, int]) -> None:
    matrix = pairs(*shape)
    made = []
    for way in ("items", "users"):
        history, items = ease.factorise(matrix, 5.0, 6, way, seed=1)  # type: ignore[arg-type]
        made.append((matrix @ history) @ items.T)
    assert np.allclose(made[0], made[1], atol=2e-3)


def test_a_low_rank_is_the_best_approximation_of_the_predictions() -> None:
    matrix = pairs()
    predicted = matrix @ dense_ease(matrix, 5.0)
    u, s, vt = np.linalg.svd(predicted, full_matrices=False)
    history, items = ease.factorise(matrix, 5.0, 5, "items", seed=1)
    best = (u[:, :5] * s[:5]) @ vt[:5]
    error = np.linalg.norm((matrix @ history) @ items.T - predicted)
    assert error <= 1.01 * np.linalg.norm(best - predicted)


def test_the_first_factors_are_those_of_a_smaller_rank() -> None:
    matrix = pairs()
    wide = second_view.learn(matrix, Second("ease", 12, 0.5, 5.0), seed=1).head(4)
    narrow = second_view.learn(matrix, Second("ease", 4, 0.5, 5.0), seed=1)
    assert np.allclose(wide.users @ wide.items.T, narrow.users @ narrow.items.T, atol=5e-3)


def test_users_are_weighed_by_the_length_of_their_histories() -> None:
    matrix = pairs()
    lengths = np.diff(matrix.indptr)
    assert len(set(lengths)) > 3
    weights = lengths**-0.5 / (lengths @ lengths**-0.5) * lengths.sum()
    dense = matrix.toarray().astype(np.float64)
    gram = dense.T @ (weights[:, None] * dense) + 5.0 * np.eye(25)
    inverse = np.linalg.inv(gram)
    expected = dense @ (np.eye(25) - inverse / np.diag(inverse))
    for way in ("items", "users"):
        chosen = Second("ease", 25, 0.5, 5.0, way, 0.5)  # type: ignore[arg-type]
        made = second_view.learn(matrix, chosen, seed=1)
        assert np.allclose(made.users @ made.items.T, expected, atol=2e-3)
    alike = ease.by_activity(matrix, 0.0)
    assert np.array_equal(alike.toarray(), matrix.toarray())


def test_the_truncated_way_is_exact_where_nothing_is_cut() -> None:
    matrix = pairs()  # of 25 items, fewer than the singular values that are kept
    history, items = ease.factorise(matrix, 5.0, 25, "truncated", seed=1)
    expected = matrix @ dense_ease(matrix, 5.0)
    assert np.allclose((matrix @ history) @ items.T, expected, atol=2e-3)


def test_the_way_follows_from_the_sizes_and_the_memory() -> None:
    assert ease.way(1000, 500, 10**9) == "items"
    assert ease.way(500, 1000, 10**9) == "users"
    assert ease.way(10**6, 10**5, 10**9) == "truncated"


def solved(factors: np.ndarray, liked: np.ndarray, confidence: float, penalty: float) -> np.ndarray:
    """Hu, Koren & Volinsky 2008, equation 4, as it is written there."""
    y = factors.astype(np.float64)
    weights = np.ones(len(y))
    weights[liked] += confidence
    wanted = np.zeros(len(y))
    wanted[liked] = 1
    left = y.T @ (weights[:, None] * y) + penalty * np.eye(y.shape[1])
    return np.linalg.solve(left, y.T @ (weights * wanted))


@pytest.mark.parametrize("rank", [3, 40])  # below and above the lengths of histories
def test_als_solves_the_equation_of_the_paper(rank: int) -> None:
    matrix = pairs(share=0.5)
    factors = np.random.default_rng(2).standard_normal((25, rank)).astype(np.float32)
    found = als.solve(factors, matrix, 10.0, 3.0)
    for user in (0, 7, 59):
        expected = solved(factors, matrix[user].indices, 10.0, 3.0)
        assert np.allclose(found[user], expected, rtol=1e-3, atol=1e-4)


def test_als_does_not_depend_on_what_is_solved_beside_a_row() -> None:
    matrix = pairs()
    factors = np.random.default_rng(2).standard_normal((25, 8)).astype(np.float32)
    together = als.solve(factors, matrix, 10.0, 3.0)
    for user in (0, 31):
        alone = als.solve(factors, matrix[[user]], 10.0, 3.0)
        assert np.allclose(alone[0], together[user], rtol=1e-4, atol=1e-6)


def test_als_gives_an_empty_row_zeros() -> None:
    matrix = sp.vstack([pairs(10), sp.csr_matrix((1, 25), dtype=np.float32)]).tocsr()
    assert not als.factorise(matrix, 4, 10.0, 3.0, 2, seed=1)[0][-1].any()


@pytest.mark.parametrize("kind", ["ease", "als"])
def test_a_user_who_was_trained_and_one_who_is_new_have_the_same_factors(
    kind: second_view.Kind,
) -> None:
    matrix = pairs(share=0.4)
    made = second_view.learn(matrix, Second(kind, 6, 0.5, 5.0), seed=1)
    indptr, items = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
    new = made.view.vectors(made.items, indptr, items)
    assert np.allclose(new, made.users, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("kind", ["ease", "als"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), size=st.integers(1, 9))
def test_a_new_user_s_factors_have_the_same_bits_in_any_batch_and_order(
    kind: second_view.Kind, seed: int, size: int
) -> None:
    matrix = pairs(share=0.4)
    made = second_view.learn(matrix, Second(kind, 6, 0.5, 5.0), seed=1)
    rng = np.random.default_rng(seed)
    lists = [rng.permutation(25)[: rng.integers(0, 20)].astype(np.int32) for _ in range(size)]
    weights = [rng.random(len(one)).astype(np.float32) + 0.1 for one in lists]
    indptr = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    together = made.view.vectors(made.items, indptr, np.concatenate(lists), np.concatenate(weights))
    for user, (own, own_weights) in enumerate(zip(lists, weights, strict=True)):
        order = rng.permutation(len(own))
        ends = np.array([0, len(own)], np.int64)
        alone = made.view.vectors(made.items, ends, own[order], own_weights[order])
        assert alone[0].tobytes() == together[user].tobytes()


def test_equal_weights_give_the_same_bits_as_none() -> None:
    made = second_view.learn(pairs(), Second("ease", 6, 0.5, 5.0), seed=1)
    ends, items = np.array([0, 3], np.int64), np.array([1, 4, 9], np.int32)
    plain = made.view.vectors(made.items, ends, items)
    equal = made.view.vectors(made.items, ends, items, np.full(3, 0.3, np.float32))
    assert plain.tobytes() == equal.tobytes()
    heavier = made.view.vectors(made.items, ends, items, np.array([3, 1, 1], np.float32))
    assert not np.allclose(plain, heavier)


def test_what_each_item_of_a_history_adds_is_the_score() -> None:
    made = second_view.learn(pairs(), Second("ease", 6, 0.5, 5.0), seed=1)
    items = np.array([1, 4, 9], np.int32)
    vector = made.view.vectors(made.items, np.array([0, 3], np.int64), items)[0]
    assert made.view.history is not None
    parts = made.view.history[items] @ made.items.T
    assert np.allclose(parts.sum(axis=0), made.items @ vector, atol=1e-5)


def test_fold_in_appends_the_second_part() -> None:
    matrix = pairs()
    made = second_view.learn(matrix, Second("ease", 6, 0.5, 5.0), seed=1)
    lightfm = np.random.default_rng(3).standard_normal((25, 4)).astype(np.float32)
    mean = plain_mean(4)
    both = FoldIn(mean.kind, mean.matrix, mean.intercept, 1.0, 0.0, made.view)
    assert both.width == 10
    ends, items = np.array([0, 2], np.int64), np.array([3, 7], np.int32)
    found = fold_in(both, np.hstack([lightfm, made.items]), ends, items)
    assert np.array_equal(found[:, :4], fold_in(mean, lightfm, ends, items))
    assert np.array_equal(found[:, 4:], made.view.vectors(made.items, ends, items))
    with pytest.raises(KernelError, match=r"shape \(n_items, 10\)"):
        fold_in(both, lightfm, ends, items)


def test_a_second_view_is_of_one_kind() -> None:
    with pytest.raises(KernelError, match="one of history and gram"):
        SecondView()
    with pytest.raises(KernelError, match="finite"):
        SecondView(history=np.full((2, 2), np.nan, np.float32))


def vectors(n: int, d: int, seed: int, scale: float = 1.0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((n, d)) * scale
    return made.astype(np.float32)


def model(seed: int, d: int = 4, scale: float = 1.0) -> Embeddings:
    return Embeddings(
        vectors(60, d, seed, scale),
        vectors(60, 1, seed + 1)[:, 0],
        vectors(25, d, seed + 2),
        vectors(25, 1, seed + 3, scale)[:, 0],
    )


def scores(one: Embeddings) -> np.ndarray:
    made = one.user_embeddings @ one.item_embeddings.T + one.item_biases
    return np.asarray(made - made.mean(axis=1, keepdims=True))


def test_models_side_by_side_add_their_scores_at_the_same_spread() -> None:
    first, second = model(1), model(10, d=3, scale=20.0)
    both = join([first, second], pairs(share=0.4), seed=1)
    assert both.item_embeddings.shape == (25, 7)
    added = scores(first) + scores(second) * (scores(first).std() / scores(second).std())
    assert np.allclose(scores(both), added, rtol=0.02, atol=0.05)


def test_the_share_says_how_much_the_first_counts() -> None:
    assert factor(0.5, 2.0, 4.0) == 0.5
    assert factor(0.75, 1.0, 1.0) == pytest.approx(1 / 3)
    one, likes = model(1), pairs(share=0.4)

    def measured() -> float:
        users, items = one.user_embeddings, one.item_embeddings
        return spread(users, items, one.item_biases, likes=likes, seed=1)

    assert measured() == pytest.approx(float(np.sqrt((scores(one) ** 2).mean())), rel=1e-4)
    likes = sp.vstack([sp.csr_matrix((20, 25), dtype=np.float32), likes[20:]]).tocsr()
    one.user_embeddings[:20] *= 100  # nobody who was trained
    assert measured() == pytest.approx(float(np.sqrt((scores(one)[20:] ** 2).mean())), rel=1e-4)


@pytest.mark.parametrize("kind", ["ease", "als"])
def test_beside_a_model_scores_are_a_weighted_sum_and_new_users_have_the_same(
    kind: second_view.Kind,
) -> None:
    matrix, one = pairs(share=0.4), model(1)
    factors = second_view.learn(matrix, Second(kind, 6, 0.7, 5.0), seed=1)
    both, view = second_view.beside(one, factors, 0.7, matrix, seed=1)
    second = factors.users @ factors.items.T
    second -= second.mean(axis=1, keepdims=True)
    added = scores(one) + second * (3 / 7 * scores(one).std() / second.std())
    assert np.allclose(scores(both), added, rtol=1e-3, atol=1e-3)
    items = both.item_embeddings[:, 4:]
    indptr, liked = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
    assert np.allclose(view.vectors(items, indptr, liked), both.user_embeddings[:, 4:], atol=2e-3)
    lengths = [np.square(part).sum() for part in (one.item_embeddings, items)]
    assert lengths[1] / lengths[0] == pytest.approx((3 / 7) ** 2, rel=1e-4)


def tastes(n: int = 200, m: int = 60, seed: int = 5) -> sp.coo_matrix:
    """Users who like items of their own kind, of three kinds."""
    rng = np.random.default_rng(seed)
    kind, of_item = rng.integers(0, 3, n), rng.integers(0, 3, m)
    chance = np.where(kind[:, None] == of_item, 0.35, 0.03)
    dense = (rng.random((n, m)) < chance).astype(np.float32)
    dense[:, 0] = 1
    made = sp.coo_matrix(dense)
    order = np.lexsort((made.col, made.row))
    cells = made.row[order], made.col[order]
    return sp.coo_matrix((np.ones(len(order), np.float32), cells), shape=made.shape)


EQUAL = SampleWeights(rating="none")
QUICK = Training(
    no_components=8,
    epochs=6,
    max_sampled=10,
    early_stopping=EarlyStopping(patience=6),
    sample_weights=EQUAL,
)


@pytest.mark.parametrize("kind", ["ease", "als"])
def test_the_same_seed_gives_the_same_bits(kind: second_view.Kind) -> None:
    settings = QUICK.model_copy(update={"second_view": kind, "second_view_rank": 8})
    made = [assembly.fit(tastes(), settings, threads=1)[1] for _ in range(2)]
    for one in made:
        assert one.embeddings.item_embeddings.shape == (60, 16)
        assert one.report["second_view"]["kind"] == kind
    first, second = (one.embeddings for one in made)
    assert first.user_embeddings.tobytes() == second.user_embeddings.tobytes()
    assert first.item_embeddings.tobytes() == second.item_embeddings.tobytes()


def test_a_second_view_that_is_not_clearly_better_is_left_out() -> None:
    labels = tastes()
    noise = np.random.default_rng(0).permutation(len(labels.col))
    shuffled = sp.coo_matrix((labels.data, (labels.row, labels.col[noise])), shape=labels.shape)
    shuffled.sum_duplicates()
    shuffled.data[:] = 1
    made = assembly.fit(shuffled.tocsr().tocoo(), QUICK, threads=1)[1]
    assert made.second is None
    assert made.report["compared"]["second_view"]["tried"]
    assert made.embeddings.item_embeddings.shape == (60, 8)


def test_what_is_switched_off_leaves_the_model_as_lightfm_trained_it() -> None:
    settings = QUICK.model_copy(update={"second_view": "none", "user_vectors": "trained"})
    fitted, made = assembly.fit(tastes(), settings, threads=1)
    assert made.as_trained
    assert made.embeddings is fitted.embeddings


def test_folded_in_users_have_the_vector_that_a_new_user_with_their_items_has() -> None:
    labels = tastes()
    settings = QUICK.model_copy(update={"second_view": "none", "user_vectors": "folded_in"})
    _, made = assembly.fit(labels, settings, threads=1)
    known = made.report["known_users"]
    assert known["share_of_trained"] == 0
    likes = assembly.likes_of(labels)
    again = known_users.represent(
        made.first, likes, known_users.Known(0.0, Candidate(**known["map"]))
    )
    assert again.user_embeddings.tobytes() == made.embeddings.user_embeddings.tobytes()
    assert np.allclose(
        made.embeddings.item_biases, known["bias_scale"] * made.first.item_biases, rtol=1e-6
    )


def test_new_users_get_the_biases_that_their_map_wants() -> None:
    labels = tastes()
    settings = QUICK.model_copy(update={"second_view": "ease", "user_vectors": "folded_in"})
    _, made = assembly.fit(labels, settings, threads=1)
    found, report = assembly.fold_in_of(made, assembly.likes_of(labels), 42)
    wanted = report["chosen"]["bias_scale"] * made.first.item_biases
    assert np.allclose(found.bias_scale * made.embeddings.item_biases, wanted, rtol=1e-5)
    assert found.width == made.embeddings.item_embeddings.shape[1]


def test_members_are_trained_with_what_is_different_in_them() -> None:
    settings = Training.model_validate(
        {
            **QUICK.model_dump(),
            "members": {"b": {"seed": 2, "no_components": 6}, "a": {"seed": 1}},
            "second_view": "none",
            "user_vectors": "trained",
        }
    )
    _, made = assembly.fit(tastes(), settings, threads=1)
    assert made.embeddings.item_embeddings.shape == (60, 14)
    alone = [assembly.fit(tastes(), one, threads=1)[1].embeddings for one in settings.each()]
    assert np.array_equal(made.embeddings.item_embeddings[:, :8], alone[0].item_embeddings)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"loss": "logistic", "second_view": "ease"}, "second_view"),
        ({"loss": "logistic", "user_vectors": "folded_in"}, "user_vectors"),
        ({"loss": "logistic", "members": {"a": {"seed": 1}}}, "members"),
        ({"members": {"a": {}, "b": {"loss": "warp-kos"}}}, "takes no sample weights"),
        ({"early_stopping": None, "second_view": "als"}, "without early_stopping"),
        ({"early_stopping": None, "user_vectors": "folded_in"}, "without early_stopping"),
    ],
)
def test_what_cannot_be_chosen_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Training.model_validate(changed)


def test_a_probability_is_not_mixed_with_other_scores() -> None:
    settings = Training(loss="logistic", no_components=8, epochs=4, sample_weights=EQUAL)
    assert settings.widest == 8
    assert assembly.fit(tastes(), settings, threads=1)[1].as_trained
