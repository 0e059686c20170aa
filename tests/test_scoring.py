"""The scorer of all experts against each expert by itself; quantiles by table against a search."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.special import ndtri

from rcml_misa.experts.ridge import KERNELS
from rcml_misa.experts.scoring import ExpertScorer
from rcml_misa.experts.view_experts import ViewExperts
from rcml_misa.reading.quantiles import CELLS, QuantileTable
from rcml_misa.views import MultiView, dense


def searched(order, values):
    """Mid-ranks by a search for each value."""
    rows, result = len(order), np.empty(values.shape)
    for column in range(values.shape[1]):
        low = np.searchsorted(order[:, column], values[:, column], side="left")
        high = np.searchsorted(order[:, column], values[:, column], side="right")
        result[:, column] = (low + high) / (2 * rows)
    return ndtri(np.clip(result, 0.5 / rows, 1 - 0.5 / rows))


KINDS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "ties": lambda rng, n: rng.integers(0, 4, size=n).astype(float),
    "constant": lambda rng, n: np.full(n, 2.5),
    "zeros": lambda rng, n: np.where(rng.random(n) < 0.9, 0.0, rng.random(n)),
    "outlier": lambda rng, n: np.append(rng.normal(size=n - 1) * 1e-9, 1e9),
    "signed zeros": lambda rng, n: np.copysign(0.0, rng.normal(size=n)) + (rng.random(n) < 0.1),
    "huge": lambda rng, n: rng.normal(size=n) * 1e300,
    "tiny": lambda rng, n: rng.integers(0, 9, size=n) * 5e-324,
    "bytes": lambda rng, n: rng.integers(0, 256, size=n).astype(float),
}


@pytest.mark.parametrize("rows", [1, 2, 50, 3 * CELLS])
def test_quantiles_are_those_of_a_search(rows):
    rng = np.random.default_rng(rows)
    order = np.column_stack([np.sort(make(rng, rows)) for make in KINDS.values()])
    table = QuantileTable(order)
    queries = [
        order,
        order[::-1] + 0.5,
        np.nextafter(order, np.inf),
        np.nextafter(order, -np.inf),
        np.full_like(order, 1e308),
        np.full_like(order, -1e308),
        rng.normal(size=order.shape),
        np.zeros_like(order),
        np.full_like(order, -0.0),
    ]
    for values in queries:
        np.testing.assert_array_equal(table(values), searched(order, values))
        np.testing.assert_array_equal(table(values[:1]), searched(order, values[:1]))


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
    st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=10),
)
@settings(deadline=None, max_examples=60)
def test_quantiles_of_any_numbers(order, values):
    column, asked = np.sort(np.array(order))[:, None], np.array([*values, *order])[:, None]
    np.testing.assert_array_equal(QuantileTable(column)(asked), searched(column, asked))


def experts(rows, *, views=3, gaps=False, landmarks=1400, kernel="auto", seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 4
    tables = {
        f"v{width}": rng.normal(size=(4, width))[y] + rng.normal(size=(rows, width))
        for width in (3, 8, 5)[:views]
    }
    if gaps:
        tables["v8"][rng.random(rows) < 0.3] = np.nan
    mv = MultiView(tables)
    return ViewExperts(landmarks=landmarks, kernel=kernel, random_state=0).fit(mv, y), mv


def scores_by_kernel(expert, parts):
    """Scores of one expert straight from its kernel, its landmarks and its weights."""
    values = expert.columns_([dense(part) for part in parts])
    given = torch.from_numpy(values), torch.from_numpy(expert.landmark_values_)
    near = KERNELS[expert.kernel_](*given, expert.layout_).numpy()
    return near @ expert.weights_ + expert.intercept_


@pytest.mark.parametrize("rows", [60, 500])  # in float64, and in float32
@pytest.mark.parametrize(
    ("views", "gaps"), [(1, False), (2, False), (3, False), (2, True), (3, True)]
)
@pytest.mark.parametrize(
    ("landmarks", "kernel"), [(20, "auto"), (1400, "smooth"), (1400, "rough"), (1400, "fine")]
)
def test_scores_are_those_of_each_expert_by_itself(rows, views, gaps, landmarks, kernel):
    fitted, _ = experts(rows, views=views, gaps=gaps, landmarks=landmarks, kernel=kernel)
    new = experts(70, views=views, seed=1)[1]
    scorer = ExpertScorer(fitted.views_, fitted.joint_)
    found = scorer(new.arrays)
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if rows < 400 else {"rtol": 2e-3, "atol": 2e-3}
    for one, array, scores in zip(fitted.views_, new.arrays, found.views, strict=True):
        np.testing.assert_allclose(scores, scores_by_kernel(one, [array]), **tolerance)
        np.testing.assert_allclose(one.score_parts([array]), scores, **tolerance)
    joint = scores_by_kernel(fitted.joint_, new.arrays)
    np.testing.assert_allclose(found.joint, joint, **tolerance)
    np.testing.assert_allclose(fitted.joint_.score_parts(new.arrays), found.joint, **tolerance)
    # the expert of a view with gaps has landmarks of its own
    assert scorer.shared == ([True, not gaps, True][:views] if views > 1 else [])


@pytest.mark.parametrize(("own", "joint"), [("rough", "smooth"), ("fine", "smooth")])
def test_kernels_of_views_may_differ_from_the_joint_one(own, joint):
    """Widths of .5 and 1.5 beside .2 are no whole powers of its Gaussian."""
    views, new = experts(60, kernel=own)[0].views_, experts(70, seed=1)[1]
    both = experts(60, kernel=joint)[0].joint_
    scorer = ExpertScorer(views, both)
    found = scorer(new.arrays)
    assert all(scorer.shared)
    for expert, array, scores in zip(views, new.arrays, found.views, strict=True):
        np.testing.assert_allclose(scores, scores_by_kernel(expert, [array]), atol=1e-9)
    np.testing.assert_allclose(found.joint, scores_by_kernel(both, new.arrays), atol=1e-9)


def test_tiles_of_any_size_give_the_same():
    fitted, mv = experts(500)
    scorer = ExpertScorer(fitted.views_, fitted.joint_)
    whole = scorer(mv.arrays)
    scorer.rows, scorer.landmarks = 7, 60
    tiled = scorer(mv.arrays)
    np.testing.assert_allclose(tiled.joint, whole.joint, atol=1e-4)


def test_sparse_views_are_scored_as_dense_ones():
    fitted, mv = experts(60)
    scorer = ExpertScorer(fitted.views_, fitted.joint_)
    found = scorer([csr_array(array) for array in mv.arrays])
    np.testing.assert_array_equal(found.joint, scorer(mv.arrays).joint)


def test_scorer_is_made_once_forgotten_by_fit_and_kept_out_of_copies():
    fitted, mv = experts(60)
    logits = fitted.logits(mv)
    first = fitted._scorer
    assert fitted._scorer is first
    again = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    assert "_scorer" not in vars(again)
    np.testing.assert_array_equal(again.logits(mv).joint, logits.joint)
    y = np.arange(60) % 4
    fitted.fit(mv, y[::-1].copy())
    assert fitted._scorer is not first
