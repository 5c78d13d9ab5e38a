"""EASE in a low-rank form: a closed-form linear model of items, as factors. On the driver.

EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", equation 8) predicts `X B`
from the histories X, `(n_users, n_items)`, with

    P = inverse(X'X + ridge I),    B = I - P / diag(P)

Here B is not stored. With V the first eigenvectors of `(X B)' (X B)`, `X B V V'` is the best
approximation of the predictions of this rank (principal components). So a user's factors are the
sum of the rows of `B V` that belong to the user's items, and an item's factors are its row of V.
More factors only add columns, so the first r columns are the factors of rank r.

All that is needed of P is its diagonal and its product with a few vectors. There are three ways to
get them (`Way`):

- `items`: P itself, `n_items ** 2` numbers;
- `users`: by Woodbury's identity from inverse(X X' + ridge I), `n_users ** 2` numbers. It is exact
  as well, and better where there are fewer users than items;
- `truncated`: the same from a truncated singular value decomposition of X, by randomised subspace
  iteration (Halko, Martinsson and Tropp 2011, "Finding Structure with Randomness", algorithm 4.4).
  What is beyond its rank is taken for zero.

The rows of X may be weighed before (`by_activity`): the penalty then says how much of what is
common in the histories is believed, and a user with a long history does not say most of it.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy.linalg as sl
import scipy.sparse as sp
from numpy.typing import NDArray

F32 = NDArray[np.float32]

Way = Literal["items", "users", "truncated"]

_MORE = 32  # vectors beside the wanted ones, for the accuracy of the last of these
_ROUNDS = 4  # of the subspace iteration
_TRUNCATED = 256  # singular values of `truncated`
_ROWS = 512  # of a dense block
_BYTES = 3 * 4  # of a number in the dense matrix: itself, a copy in LAPACK, and room


def way(n_users: int, n_items: int, bytes_allowed: int) -> Way:
    """Return how to get P: exactly if the smaller of both matrices fits, else truncated."""
    smaller = min(n_users, n_items)
    if smaller**2 * _BYTES > bytes_allowed:
        return "truncated"
    return "items" if n_items <= n_users else "users"


def operations(n_users: int, n_items: int, rank: int, how: Way) -> float:
    """Return about how many multiplications `factorise` takes."""
    width = min(rank + _MORE, n_items)
    side = {"items": n_items, "users": n_users, "truncated": _TRUNCATED}[how]
    products = 2.0 * (_ROUNDS + 1) * 2 * side * side * width
    if how == "truncated":
        products = 2.0 * (_ROUNDS + 1) * 4 * n_items * side * width
    dense = 2.0 * side**3 + (2.0 * side * side * n_items if how == "users" else 0.0)
    return products + dense + 4.0 * (_ROUNDS + 1) * n_items * width * width


def factorise(
    matrix: sp.csr_matrix, ridge: float, rank: int, how: Way, seed: int
) -> tuple[F32, F32]:
    """Return what an item adds to a user's factors, and the items' own factors.

    Args:
        matrix: `(n_users, n_items)` CSR, float32: X.
        ridge: the penalty.
        rank: the number of factors; fewer where the smaller side of X has fewer.
        how: how to get P.
        seed: of the vectors that the subspace iteration begins with.

    Returns:
        Two arrays `(n_items, rank)` float32.
    """
    precision = {"items": _by_items, "users": _by_users, "truncated": _truncated}[how]
    product, diagonal = precision(matrix, ridge, seed)
    reciprocal = (1 / diagonal)[:, None].astype(np.float32)
    transposed = matrix.T.tocsr()

    def weighed(vectors: F32) -> F32:  # B v
        return vectors - product(vectors * reciprocal)

    def squared(vectors: F32) -> F32:  # (X B)' (X B) v
        predicted = transposed @ (matrix @ weighed(vectors))
        found: F32 = predicted - product(predicted) * reciprocal
        return found

    own = _principal(squared, matrix.shape, rank, seed)
    return weighed(own), own


def by_activity(matrix: sp.csr_matrix, exponent: float) -> sp.csr_matrix:
    """Weigh each pair of a user with n pairs by n to the power of minus an exponent.

    Args:
        matrix: `(n_users, n_items)` CSR, float32, ones.
        exponent: 0: all pairs count the same.

    Returns:
        The matrix with the roots of the weights, whose mean is 1, so that penalties mean the same.
    """
    lengths = np.diff(matrix.indptr)
    weights = np.maximum(lengths, 1).astype(np.float64) ** -exponent
    weights *= len(matrix.data) / max(float(lengths @ weights), np.finfo(np.float64).tiny)
    roots = np.repeat(np.sqrt(weights), lengths).astype(np.float32)
    return sp.csr_matrix((roots, matrix.indices, matrix.indptr), shape=matrix.shape)


def _principal(squared: Callable[[F32], F32], shape: tuple[int, int], rank: int, seed: int) -> F32:
    """Return the first eigenvectors of a symmetric operator, `(n_items, rank)`."""
    n_items = shape[1]
    rank = min(rank, *shape)
    width = min(rank + _MORE, n_items)
    start = np.random.default_rng(seed).standard_normal((n_items, width)).astype(np.float32)
    basis = np.linalg.qr(squared(start))[0]
    for _ in range(_ROUNDS - 1):
        basis = np.linalg.qr(squared(basis))[0]
    small = basis.T @ squared(basis)
    values, vectors = np.linalg.eigh((small + small.T).astype(np.float64) / 2)
    first = np.argsort(-values, kind="stable")[:rank]
    made: F32 = basis @ vectors[:, first].astype(np.float32)
    return made


Precision = tuple[Callable[[F32], F32], F32]


def _by_items(matrix: sp.csr_matrix, ridge: float, seed: int) -> Precision:
    """Return P as a product, and its diagonal."""
    lower = inverse(gram(matrix.T.tocsr()), ridge)

    def product(vectors: F32) -> F32:
        made: F32 = sl.blas.ssymm(1.0, lower, vectors, lower=1)
        return made

    return product, np.diag(lower).copy()


def _by_users(matrix: sp.csr_matrix, ridge: float, seed: int) -> Precision:
    """Return the same by `P = (I - X' inverse(X X' + ridge I) X) / ridge`."""
    lower = inverse(gram(matrix), ridge)
    columns = matrix.tocsc()
    explained = np.empty(matrix.shape[1], np.float32)
    for start in range(0, len(explained), _ROWS):
        block = columns[:, start : start + _ROWS].toarray(order="F")
        solved = sl.blas.ssymm(1.0, lower, block, lower=1)
        explained[start : start + _ROWS] = np.einsum("ij,ij->j", block, solved)
    transposed, scale = matrix.T.tocsr(), np.float32(1 / ridge)

    def product(vectors: F32) -> F32:
        solved = sl.blas.ssymm(1.0, lower, matrix @ vectors, lower=1)
        made: F32 = (vectors - transposed @ solved) * scale
        return made

    return product, np.maximum(1 - explained, np.finfo(np.float32).eps) * scale


def _truncated(matrix: sp.csr_matrix, ridge: float, seed: int) -> Precision:
    """Return nearly the same by the first singular values and vectors of X."""
    transposed = matrix.T.tocsr()
    vectors = _principal(lambda v: transposed @ (matrix @ v), matrix.shape, _TRUNCATED, seed)
    squares = np.square(matrix @ vectors).sum(axis=0, dtype=np.float64)
    shares = (squares / (squares + ridge)).astype(np.float32)
    scale = np.float32(1 / ridge)

    def product(given: F32) -> F32:
        made: F32 = (given - (vectors * shares) @ (vectors.T @ given)) * scale
        return made

    explained = np.square(vectors) @ shares
    return product, np.maximum(1 - explained, np.finfo(np.float32).eps) * scale


def gram(matrix: sp.csr_matrix) -> F32:
    """Return `matrix @ matrix.T` as a dense array; block by block, as a sparse one is larger."""
    transposed = matrix.T.tocsr()
    made = np.empty((matrix.shape[0], matrix.shape[0]), np.float32, order="F")
    for start in range(0, len(made), _ROWS):
        block = (matrix[start : start + _ROWS] @ transposed).toarray()
        made[:, start : start + _ROWS] = block.T
    return made


def inverse(square: F32, ridge: float) -> F32:
    """Return the lower triangle of `inverse(square + ridge I)`, in place of `square`.

    Raises:
        LinAlgError: the ridge is too small for float32.
    """
    square[np.diag_indices(len(square))] += np.float32(ridge)
    factor, failed = sl.lapack.spotrf(square, lower=1, overwrite_a=1)
    if not failed:
        found, failed = sl.lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise np.linalg.LinAlgError(f"X'X + {ridge:g} I is not positive definite: raise the ridge")
    made: F32 = found
    return made
