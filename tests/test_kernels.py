"""The experts' kernels against SciPy's distances and plain loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from rcml_misa.experts.ridge import KERNELS, BlockKernel, negative_distances


@given(
    rows=st.integers(1, 8),
    others=st.integers(1, 8),
    width=st.integers(1, 6),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_negative_distances_match_scipy(rows, others, width, seed):
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(rows, width)), rng.normal(size=(others, width))
    wanted = cdist(left, right, "sqeuclidean")
    first, second = torch.from_numpy(left), torch.from_numpy(right)
    np.testing.assert_allclose(-negative_distances(first, second), wanted, atol=1e-12)
    assert (negative_distances(first, first) <= 0).all()


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
    given = torch.from_numpy(left), torch.from_numpy(right)
    kept = [part.clone() for part in given]
    np.testing.assert_allclose(kernel(*given, layout), wanted, atol=1e-12)
    assert all(torch.equal(*pair) for pair in zip(given, kept, strict=True))


@pytest.mark.parametrize("kernel", KERNELS.values())
def test_kernels_keep_float32_and_are_positive_semidefinite(kernel):
    wide = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 4)))
    layout = ((1, 1), (1, 1))
    assert kernel(wide.float(), wide.float(), layout).dtype == torch.float32
    assert np.linalg.eigvalsh(kernel(wide, wide, layout)).min() > -1e-10


def test_product_asks_for_nearness_in_every_view_and_the_sum_in_any():
    here, there = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 30.0]])
    layout = ((1, 1),)
    product = BlockKernel(product=1.0, additive=(), linear=0.0)(here, there, layout)
    both = BlockKernel(product=1.0, additive=(1.0,), linear=0.0)(here, there, layout)
    assert product[0, 0] < 1e-6
    assert float(both[0, 0]) == pytest.approx(0.5)
