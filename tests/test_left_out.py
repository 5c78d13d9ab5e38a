"""How well users are served who were left out of a sample, by known answers."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import Training
from recsys.kernel.fold_in import FoldIn, plain_mean
from recsys.learn.assembly import Assembled
from recsys.learn.budget import Budget
from recsys.learn.early_stopping import Validator, hold_out
from recsys.learn.embeddings import Embeddings
from recsys.learn.fitting import Fitted
from recsys.learn.left_out import hold_out_pairs, judge
from recsys.learn.penalty import Penalties

# Twenty users, each of one of two kinds, and twelve items of each kind.
N_USERS, N_ITEMS = 20, 24
KIND = np.eye(2, dtype=np.float32)[np.arange(N_ITEMS) % 2]
SETTINGS = Training.model_validate({"early_stopping": {"share": 0.3, "k": 12}})


def likes() -> sp.coo_matrix:
    rows = [(u, i) for u in range(N_USERS) for i in range(u % 2, N_ITEMS, 2)]
    rows = [*rows, *((u, 1 - u % 2) for u in range(N_USERS))]
    values = np.array([1.0] * 12 * N_USERS + [-1.0] * N_USERS, np.float32)
    made = sp.coo_matrix((values, np.array(rows).T), shape=(N_USERS, N_ITEMS)).tocsr().tocoo()
    return made


def made(report: dict[str, Any] | None = None, **more: Any) -> tuple[Fitted, Assembled]:
    users = np.zeros((3, 2), np.float32)
    vectors = Embeddings(users, users[:, 0], KIND, np.zeros(N_ITEMS, np.float32))
    report = {"ndcg": 0.75} if report is None else report
    fitted = Fitted(vectors, vectors, 1, report, None, Penalties(0.0, 0.0))
    return fitted, Assembled(vectors, vectors, **more)


def test_users_are_folded_in_from_a_part_of_their_pairs_and_judged_by_the_rest() -> None:
    found = judge(likes(), *made(), plain_mean(2), SETTINGS)
    assert found is not None
    # What is left of a user's kind comes first.
    assert (found.users, found.metric, found.ndcg) == (N_USERS, "ndcg@12", 1.0)
    assert (found.low, found.high) == (1.0, 1.0)
    assert found.cost is None  # without a search
    assert judge(likes(), *made(), plain_mean(2), SETTINGS) == found
    # A map that turns everyone round finds nothing before all that is not liked.
    turned = FoldIn("mean", np.eye(2, dtype=np.float32)[::-1].copy(), np.zeros(2, np.float32), 1, 0)
    other = judge(likes(), *made(), turned, SETTINGS)
    assert other is not None
    assert other.ndcg < 0.5


def test_who_has_nothing_left_is_not_judged_and_without_anybody_there_is_no_answer() -> None:
    single = sp.coo_matrix((np.ones(5, np.float32), (range(5), range(5))), shape=(5, N_ITEMS))
    assert judge(single, *made(), plain_mean(2), SETTINGS) is None
    dislikes = sp.coo_matrix((-np.ones(5, np.float32), (range(5), range(5))), shape=(5, N_ITEMS))
    assert judge(dislikes, *made(), plain_mean(2), SETTINGS) is None


def test_pairs_of_an_item_that_one_user_has_are_held_out_as_often_as_any_others() -> None:
    # Two thousand users with two popular items and two that nobody else has.
    n = 2000
    cells = [(u, i) for u in range(n) for i in (0, 1, 2 + 2 * u, 3 + 2 * u)]
    labels = sp.coo_matrix((np.ones(4 * n, np.float32), np.array(cells).T), shape=(n, 2 + 2 * n))
    held_out = hold_out_pairs(labels, 0.3, 7)
    rare = labels.col >= 2
    assert held_out[rare].mean() == pytest.approx(0.3, abs=0.03)
    assert held_out[~rare].mean() == pytest.approx(0.3, abs=0.03)
    assert (hold_out_pairs(labels, 0.3, 7) == held_out).all()
    assert (hold_out_pairs(labels, 0.3, 8) != held_out).any()
    # What is disliked is nothing that a list is to have.
    labels.data[rare] = -1
    assert (hold_out_pairs(labels, 0.3, 7) == held_out & ~rare).all()


def test_users_are_judged_by_items_that_only_they_have_and_keep_something_to_be_folded_in_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[sp.coo_matrix, NDArray[np.bool_]]] = []
    begin = Validator.__init__

    def watched(self: Validator, labels: Any, held_out: Any, *rest: Any) -> None:
        seen.append((labels, held_out))
        begin(self, labels, held_out, *rest)

    monkeypatch.setattr(Validator, "__init__", watched)
    # Five users, each with four items that nobody else has, and one user with one item.
    cells = [*((u, 4 * u + i) for u in range(5) for i in range(4)), (5, 20)]
    apart = sp.coo_matrix((np.ones(21, np.float32), np.array(cells).T), shape=(6, N_ITEMS))
    half = Training.model_validate({"early_stopping": {"share": 0.5, "k": 12}})
    judged = set()
    for seed in range(8):
        found = judge(apart, *made(), plain_mean(2), half.model_copy(update={"seed": seed}))
        assert found is not None
        labels, held_out = seen.pop()
        lost = np.bincount(labels.row[held_out], minlength=6)
        assert found.users == np.count_nonzero(lost)
        assert lost.max() < 4
        assert lost[5] == 0
        judged |= set(labels.col[held_out].tolist())
    assert len(judged) > 15


def test_without_time_nothing_is_measured_and_the_budget_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget = Budget(seconds=0.0)
    fitted, assembled = made(budget=budget)
    monkeypatch.setattr(Validator, "of_vectors", lambda *_: pytest.fail("it was measured"))
    assert judge(likes(), fitted, assembled, plain_mean(2), SETTINGS) is None
    assert any("users who are left out" in what for what in budget.given_up)


def test_the_cost_is_measured_for_both_with_the_model_of_the_search() -> None:
    labels, stopping = likes(), SETTINGS.early_stopping
    assert stopping is not None
    held_out = hold_out(labels, stopping, SETTINGS.seed)
    validator = Validator(labels, held_out, stopping, SETTINGS.seed)
    kept = sp.coo_matrix(
        (labels.data[~held_out], (labels.row[~held_out], labels.col[~held_out])), labels.shape
    )

    def cost(users: NDArray[np.float32], mapped: FoldIn) -> float:
        nothing = np.zeros(N_USERS, np.float32), np.zeros(N_ITEMS, np.float32)
        model = Embeddings(users, nothing[0], KIND, nothing[1])
        search = SimpleNamespace(model=lambda: model, validator=validator, labels=kept)
        fitted, assembled = made()
        found = judge(labels, replace(fitted, found=search), assembled, mapped, SETTINGS)  # type: ignore
        assert found is not None
        assert found.cost is not None
        return found.cost

    right = KIND[np.arange(N_USERS) % 2]
    turned = FoldIn("mean", np.eye(2, dtype=np.float32)[::-1].copy(), np.zeros(2, np.float32), 1, 0)
    # The map of the published model makes no difference.
    assert cost(right, plain_mean(2)) == cost(right, turned) == 0.0
    # Users whom the training served badly would be better off left out.
    assert cost(right[::-1].copy(), plain_mean(2)) < -0.5


def test_for_the_cost_items_count_that_the_search_has_trained_and_held_pairs_out_of() -> None:
    stopping = SETTINGS.early_stopping
    assert stopping is not None
    # Users of the sample like the first 20 items of their kind; the last 4 the search did not see.
    known = likes().tocsc()[:, :20].tocoo()
    mine = sp.coo_matrix((known.data, (known.row, known.col)), likes().shape).tocsr().tocoo()
    held_out = hold_out(mine, stopping, SETTINGS.seed)
    # Of two items it has held nothing out: they are for others alone.
    held_out &= mine.col >= 2
    validator = Validator(mine, held_out, stopping, SETTINGS.seed)
    cells = mine.row[~held_out], mine.col[~held_out]
    kept = sp.coo_matrix((mine.data[~held_out], cells), mine.shape)
    # Of what the search does not ask for nothing is found, although it is of the right kind.
    items, nothing = KIND.copy(), np.zeros(N_USERS, np.float32)
    biases = np.zeros(N_ITEMS, np.float32)
    items[:2] = 0.0
    items[20:] = 9 * KIND[20:, ::-1]  # nobody is to be folded in from these
    biases[[0, 1, 20, 21, 22, 23]] = -99.0
    model = Embeddings(KIND[np.arange(N_USERS) % 2], nothing, items, biases)
    search = SimpleNamespace(model=lambda: model, validator=validator, labels=kept)
    fitted, assembled = made()
    found = judge(likes(), replace(fitted, found=search), assembled, plain_mean(2), SETTINGS)  # type: ignore
    assert found is not None
    assert found.cost == pytest.approx(0.0)
