"""The ridge on Nystroem features against refitting it without each row."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcml_misa.experts import ridge, sums
from rcml_misa.experts.ridge import BlockKernel, blocks, nystroem_root
from rcml_misa.experts.sums import Sample

PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0)


class Problem(NamedTuple):
    """Rows, their Nystroem features, and the classes to regress."""

    root: torch.Tensor
    kernel: object
    values: np.ndarray
    cross: torch.Tensor
    onehot: np.ndarray

    @property
    def features(self):
        exact = self.cross.double()
        return torch.linalg.solve_triangular(self.root, exact.T, upper=False).T.numpy()

    def fit(self, penalties):
        sample = Sample(self.cross, torch.from_numpy(self.onehot.argmax(axis=1)), None)
        return ridge.fit_ridge(sample, self.onehot.shape[1], penalties, self.root)

    def scores(self, found):
        return self.cross.double().numpy() @ found.coefficients + found.intercept


def problem(rows=40, landmarks=15, classes=3, width=4, seed=0, dtype=np.float64):
    """Noisy classes; the landmarks are the first rows."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(classes, size=rows)
    codes[:classes] = np.arange(classes)
    values = (rng.normal(size=(classes, width))[codes] + rng.normal(size=(rows, width))) / 2
    values = values.astype(dtype)
    plain = partial(BlockKernel(product=0.5, additive=(0.9,)), layout=((width,),))

    def kernel(left, right):
        return plain(torch.from_numpy(left), torch.from_numpy(right))

    root = nystroem_root(kernel(values[:landmarks], values[:landmarks]))
    cross = kernel(values, values[:landmarks])
    return Problem(root, kernel, values, cross, np.eye(classes)[codes])


def refitted(features, onehot, penalty):
    """Predict each row by a ridge with a free intercept that is fitted without it."""
    rows, width = features.shape
    design = np.column_stack([features, np.ones(rows)])
    cost = np.diag([*np.full(width, penalty), 0.0])
    scores = np.empty(onehot.shape)
    for row in range(rows):
        kept = np.arange(rows) != row
        left = design[kept].T @ design[kept] + cost
        scores[row] = design[row] @ np.linalg.solve(left, design[kept].T @ onehot[kept])
    return scores


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_leave_one_out_scores_equal_refitting(penalty, seed):
    given = problem(seed=seed)
    found = given.fit([penalty])
    wanted = refitted(given.features, given.onehot, penalty)
    np.testing.assert_allclose(found.loo_scores, wanted, atol=1e-8)
    assert found.penalty == penalty


@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    rows=st.integers(6, 30),
    landmarks=st.integers(1, 12),
    classes=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_leave_one_out_holds_for_any_shape(rows, landmarks, classes, seed):
    given = problem(rows, min(landmarks, rows), classes, seed=seed)
    wanted = refitted(given.features, given.onehot, 0.05)
    np.testing.assert_allclose(given.fit([0.05]).loo_scores, wanted, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_penalty_has_the_least_leave_one_out_square_error(seed):
    given = problem(seed=seed)
    gaps = [refitted(given.features, given.onehot, one) - given.onehot for one in PENALTIES]
    errors = [(gap**2).sum() for gap in gaps]
    assert given.fit(PENALTIES).penalty == PENALTIES[int(np.argmin(errors))]


def test_features_have_the_nystroem_kernel_as_inner_products():
    given = problem()
    root, kernel, values, features = given.root, given.kernel, given.values, given.features
    near = values[:15]
    square, cross = kernel(near, near).numpy(), kernel(values, near).numpy()
    wanted = cross @ np.linalg.solve(square, cross.T)
    # the diagonal of the landmarks' kernel is lifted a little
    np.testing.assert_allclose(features @ features.T, wanted, atol=5e-3)
    np.testing.assert_allclose(root @ root.T, square, atol=1e-4)


@pytest.mark.parametrize("error", [1e-4, 1e-3])
def test_kernel_matrix_that_rounding_left_indefinite_is_lifted_further(error):
    x = np.random.default_rng(0).normal(size=(40, 3))
    x[20:] = x[:20]  # copies: half of the eigenvalues are 0, and below it after rounding

    rounded = x @ x.T + 1 - error * np.eye(40)
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(rounded + 1e-5 * np.eye(40))
    phi = nystroem_root(torch.from_numpy(rounded))
    np.testing.assert_allclose(phi @ phi.T, x @ x.T + 1, atol=20 * error)


def test_weights_and_intercept_reproduce_the_ridge_on_features():
    given = problem()
    found, onehot = given.fit([0.1]), given.onehot
    design = np.column_stack([given.features, np.ones(len(onehot))])
    cost = np.diag([*np.full(15, 0.1), 0.0])
    solution = np.linalg.solve(design.T @ design + cost, design.T @ onehot)
    np.testing.assert_allclose(given.scores(found), design @ solution, atol=1e-8)


def test_intercept_alone_where_the_penalty_is_huge():
    given = problem()
    found, onehot = given.fit([1e12]), given.onehot
    scores = given.scores(found)
    np.testing.assert_allclose(scores, np.tile(onehot.mean(axis=0), (40, 1)), atol=1e-8)
    others = (onehot.sum(axis=0) - onehot) / 39
    np.testing.assert_allclose(found.loo_scores, others, atol=1e-8)


def test_features_of_the_landmarks_are_rows_of_the_factor():
    given = problem(rows=15, landmarks=15)
    np.testing.assert_allclose(given.root, given.features, atol=1e-4)


@pytest.mark.parametrize("size", [1, 7, 39])
def test_many_blocks_give_what_one_block_gives(monkeypatch, size):
    given = problem()
    whole = given.fit(PENALTIES)
    monkeypatch.setattr(sums, "BLOCK", size)
    monkeypatch.setattr(sums, "CHUNK", 2 * size)
    parts = given.fit(PENALTIES)
    assert parts.penalty == whole.penalty
    np.testing.assert_allclose(parts.loo_scores, whole.loo_scores, atol=1e-9)
    np.testing.assert_allclose(parts.coefficients, whole.coefficients, atol=1e-7)
    np.testing.assert_allclose(parts.intercept, whole.intercept, atol=1e-9)


@given(rows=st.integers(1, 50), size=st.integers(1, 12))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_blocks_cover_each_row_once(rows, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ridge, "BLOCK", size)
        parts = list(blocks(rows))
    assert np.concatenate([np.arange(rows)[part] for part in parts]).tolist() == list(range(rows))
    assert all(0 < part.stop - part.start <= size for part in parts)


@pytest.mark.parametrize("landmarks", [60, 430])
def test_float32_stays_close_to_float64(landmarks):
    # above 400 landmarks the eigenvectors are found in float32 too
    penalties = (0.01, 0.1, 1.0, 10.0)
    narrow = problem(500, landmarks, width=12, dtype=np.float32)
    wide = problem(500, landmarks, width=12)
    found, wanted = narrow.fit(penalties), wide.fit(penalties)
    assert found.penalty == wanted.penalty
    np.testing.assert_allclose(found.loo_scores, wanted.loo_scores, atol=2e-3)
    exact = wide.scores(wanted)
    np.testing.assert_allclose(narrow.scores(found), exact, atol=5e-3)
