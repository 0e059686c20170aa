"""The ridge on Nystroem features against refitting it without each row."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcml_misa.experts import ridge
from rcml_misa.experts.ridge import BlockKernel, NystroemFeatures, blocks, fit_ridge

PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0)


def problem(rows=40, landmarks=15, classes=3, width=4, seed=0, dtype=np.float64):
    """Noisy classes; the landmarks are the first rows."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(classes, size=rows)
    codes[:classes] = np.arange(classes)
    values = (rng.normal(size=(classes, width))[codes] + rng.normal(size=(rows, width))) / 2
    values = values.astype(dtype)
    kernel = partial(BlockKernel(product=0.5, additive=(0.9,)), layout=((width,),))
    phi = NystroemFeatures(lambda block: values[block], rows, values[:landmarks], kernel)
    return phi, values, np.eye(classes, dtype=dtype)[codes]


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
    phi, _, onehot = problem(seed=seed)
    found = fit_ridge(phi, onehot, [penalty])
    wanted = refitted(phi(slice(None)), onehot, penalty)
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
    phi, _, onehot = problem(rows, min(landmarks, rows), classes, seed=seed)
    found = fit_ridge(phi, onehot, [0.05])
    np.testing.assert_allclose(
        found.loo_scores, refitted(phi(slice(None)), onehot, 0.05), atol=1e-7
    )


@pytest.mark.parametrize("seed", range(5))
def test_penalty_has_the_least_leave_one_out_square_error(seed):
    phi, _, onehot = problem(seed=seed)
    features = phi(slice(None))
    errors = [((refitted(features, onehot, one) - onehot) ** 2).sum() for one in PENALTIES]
    assert fit_ridge(phi, onehot, PENALTIES).penalty == PENALTIES[int(np.argmin(errors))]


def test_features_have_the_nystroem_kernel_as_inner_products():
    phi, values, _ = problem()
    near = values[:15]
    square = phi.kernel(near, near)
    cross = phi.kernel(values, near)
    features = phi(slice(None))
    wanted = cross @ np.linalg.solve(square, cross.T)
    # the diagonal of the landmarks' kernel is lifted a little
    np.testing.assert_allclose(features @ features.T, wanted, atol=5e-3)
    np.testing.assert_allclose(phi.factor @ phi.factor.T, square, atol=1e-4)


@pytest.mark.parametrize("error", [1e-4, 1e-3])
def test_kernel_matrix_that_rounding_left_indefinite_is_lifted_further(error):
    x = np.random.default_rng(0).normal(size=(40, 3))
    x[20:] = x[:20]  # copies: half of the eigenvalues are 0, and below it after rounding

    def rounded(a, b):
        square = a @ b.T + 1
        return square - error * np.eye(len(square)) if a.shape == b.shape else square

    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(rounded(x, x) + 1e-5 * np.eye(40))
    phi = NystroemFeatures(None, 40, x, rounded)(slice(0, 40))
    np.testing.assert_allclose(phi @ phi.T, x @ x.T + 1, atol=20 * error)


def test_weights_and_intercept_reproduce_the_ridge_on_features():
    phi, values, onehot = problem()
    found = fit_ridge(phi, onehot, [0.1])
    design = np.column_stack([phi(slice(None)), np.ones(len(onehot))])
    cost = np.diag([*np.full(15, 0.1), 0.0])
    solution = np.linalg.solve(design.T @ design + cost, design.T @ onehot)
    scores = (
        phi.kernel(values, phi.landmarks) @ phi.kernel_weights(found.coefficients) + found.intercept
    )
    np.testing.assert_allclose(scores, design @ solution, atol=1e-8)


def test_intercept_alone_where_the_penalty_is_huge():
    phi, values, onehot = problem()
    found = fit_ridge(phi, onehot, [1e12])
    scores = (
        phi.kernel(values, phi.landmarks) @ phi.kernel_weights(found.coefficients) + found.intercept
    )
    np.testing.assert_allclose(scores, np.tile(onehot.mean(axis=0), (40, 1)), atol=1e-8)
    others = (onehot.sum(axis=0) - onehot) / 39
    np.testing.assert_allclose(found.loo_scores, others, atol=1e-8)


@pytest.mark.parametrize("size", [8192, 7])
def test_rows_that_are_the_landmarks_need_no_second_kernel(monkeypatch, size):
    wanted, values, onehot = problem(rows=15, landmarks=15)
    monkeypatch.setattr(ridge, "BLOCK", size)
    phi = NystroemFeatures(None, 15, values, wanted.kernel)
    np.testing.assert_allclose(phi(slice(2, 9)), wanted(slice(None))[2:9], atol=1e-4)
    np.testing.assert_allclose(
        fit_ridge(phi, onehot, [0.1]).loo_scores,
        fit_ridge(wanted, onehot, [0.1]).loo_scores,
        atol=1e-4,
    )


@pytest.mark.parametrize("size", [1, 7, 39])
def test_many_blocks_give_what_one_block_gives(monkeypatch, size):
    phi, _, onehot = problem()
    whole = fit_ridge(phi, onehot, PENALTIES)
    monkeypatch.setattr(ridge, "BLOCK", size)
    again, _, _ = problem()
    parts = fit_ridge(again, onehot, PENALTIES)
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
    narrow, values, onehot = problem(500, landmarks, width=12, dtype=np.float32)
    wide, _, exact = problem(500, landmarks, width=12)
    found, wanted = fit_ridge(narrow, onehot, penalties), fit_ridge(wide, exact, penalties)
    assert found.penalty == wanted.penalty
    np.testing.assert_allclose(found.loo_scores, wanted.loo_scores, atol=2e-3)
    near = values[:landmarks]
    weights = narrow.kernel_weights(found.coefficients)
    scores = narrow.kernel(values, near) @ weights + found.intercept
    broad = values.astype(np.float64)
    weights = wide.kernel_weights(wanted.coefficients)
    exact_scores = wide.kernel(broad, broad[:landmarks]) @ weights + wanted.intercept
    np.testing.assert_allclose(scores, exact_scores, atol=5e-3)
