"""The experts' kernels against SciPy's distances and plain loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from rcml_misa.experts.ridge import KERNELS, BlockKernel, squared_distances


@given(
    rows=st.integers(1, 8),
    others=st.integers(1, 8),
    width=st.integers(1, 6),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_squared_distances_match_scipy(rows, others, width, seed):
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(rows, width)), rng.normal(size=(others, width))
    wanted = cdist(left, right, "sqeuclidean")
    np.testing.assert_allclose(squared_distances(left, right), wanted, atol=1e-12)
    inner = left @ right.T
    kept = inner.copy()
    np.testing.assert_allclose(squared_distances(left, right, inner), wanted, atol=1e-12)
    np.testing.assert_array_equal(inner, kept)
    assert (squared_distances(left, left) >= 0).all()


def plain_kernel(kernel, left, right, layout):
    """The docstring's formula, block by block."""
    edges = np.cumsum([0, *(width for kind in layout for width in kind)])
    blocks = [slice(a, b) for a, b in pairwise(edges)]
    distances = [cdist(left[:, one], right[:, one], "sqeuclidean") for one in blocks]
    place, product = 0, []
    for kind in layout:
        mean = np.mean(distances[place : place + len(kind)], axis=0)
        product.append(np.exp(-kernel.product * mean))
        place += len(kind)
    additive = [np.exp(-width * d) for width in kernel.additive for d in distances]
    linear = [left[:, one] @ right[:, one].T for one in blocks]
    return (
        np.mean(product, axis=0)
        + np.mean(additive, axis=0)
        + kernel.linear * np.mean(linear, axis=0)
    )


@pytest.mark.parametrize("layout", [((6,),), ((2, 1), (2, 1)), ((1, 2, 3),), ((1,), (2,), (3,))])
@pytest.mark.parametrize(
    "kernel", [*KERNELS.values(), BlockKernel(product=2.0, additive=(), linear=0.0)]
)
def test_kernel_follows_its_formula(layout, kernel):
    rng = np.random.default_rng(3)
    left, right = rng.normal(size=(5, 6)), rng.normal(size=(7, 6))
    if not kernel.additive:
        wanted = plain_kernel(
            BlockKernel(product=2.0, additive=(1e9,), linear=0.0), left, right, layout
        )
    else:
        wanted = plain_kernel(kernel, left, right, layout)
    np.testing.assert_allclose(kernel(left, right, layout), wanted, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS.values())
def test_kernels_keep_float32_and_are_positive_semidefinite(kernel):
    values = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    layout = ((1, 1), (1, 1))
    assert kernel(values, values, layout).dtype == np.float32
    wide = values.astype(np.float64)
    assert np.linalg.eigvalsh(kernel(wide, wide, layout)).min() > -1e-10


def test_product_asks_for_nearness_in_every_view_and_the_sum_in_any():
    here, there = np.array([[0.0, 0.0]]), np.array([[0.0, 30.0]])
    layout = ((1, 1),)
    product = BlockKernel(product=1.0, additive=(), linear=0.0)(here, there, layout)
    both = BlockKernel(product=1.0, additive=(1.0,), linear=0.0)(here, there, layout)
    assert product[0, 0] < 1e-6
    assert both[0, 0] == pytest.approx(0.5)
