"""Losses against integrals, torch.distributions, plain loops and gradient checks, in float64."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch.distributions import Dirichlet, kl_divergence

from rcml_misa.exceptions import OptionError
from rcml_misa.losses import (
    EDLForm,
    conflict_loss,
    difference_loss,
    dirichlet_kl,
    edl_loss,
    reconstruction_loss,
    similarity_loss,
)
from rcml_misa.opinions import degree_of_conflict

ROWS, CLASSES = 5, 4


def problem(seed: int = 0, *, soft: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    evidence = torch.from_numpy(rng.exponential(4, (ROWS, CLASSES)))
    target = np.eye(CLASSES)[rng.integers(CLASSES, size=ROWS)]
    if soft:
        target = 0.7 * target + 0.3 * np.eye(CLASSES)[rng.integers(CLASSES, size=ROWS)]
    return evidence, torch.from_numpy(target)


def codes(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


@pytest.mark.parametrize("soft", [False, True])
def test_digamma_form_by_integration(soft):
    evidence, target = problem(soft=soft)
    found = edl_loss(evidence, target, reduction="none")
    alpha = evidence.numpy() + 1
    for row in range(ROWS):
        total = alpha[row].sum()
        expected = 0.0
        for k in range(CLASSES):
            a, b = alpha[row, k], total - alpha[row, k]  # the marginal of p_k is a beta
            value, _ = integrate.quad(lambda p: -np.log(p) * stats.beta.pdf(p, a, b), 0, 1)  # noqa: B023
            expected += float(target[row, k]) * value
        assert float(found[row]) == pytest.approx(expected, rel=1e-5)


def test_log_form_is_the_cross_entropy_of_the_mean():
    evidence, target = problem()
    alpha = evidence.numpy() + 1
    expected = [
        -np.log(stats.dirichlet.mean(a)) @ y for a, y in zip(alpha, target.numpy(), strict=True)
    ]
    np.testing.assert_allclose(edl_loss(evidence, target, form="log", reduction="none"), expected)


def test_mean_square_form_is_bias_and_variance():
    evidence, target = problem()
    alpha = evidence.numpy() + 1
    expected = [
        ((y - stats.dirichlet.mean(a)) ** 2).sum() + stats.dirichlet.var(a).sum()
        for a, y in zip(alpha, target.numpy(), strict=True)
    ]
    np.testing.assert_allclose(edl_loss(evidence, target, form="mse", reduction="none"), expected)


@pytest.mark.parametrize("soft", [False, True])
def test_kl_against_torch(soft):
    evidence, target = problem(soft=soft)
    alpha = target + (1 - target) * (evidence + 1)
    expected = kl_divergence(Dirichlet(alpha), Dirichlet(torch.ones_like(alpha)))
    np.testing.assert_allclose(dirichlet_kl(evidence, target, reduction="none"), expected)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.floats(0, 1e4), st.integers(2, 6))
def test_kl_ignores_evidence_for_the_true_class(amount, classes):
    evidence = torch.zeros(1, classes, dtype=torch.float64)
    evidence[0, 0] = amount
    target = torch.eye(classes, dtype=torch.float64)[:1]
    assert float(dirichlet_kl(evidence, target)) == pytest.approx(0, abs=1e-9)


def test_stacked_opinions_are_averaged():
    evidence, target = problem()
    stacked = torch.stack([evidence, 2 * evidence], dim=1)
    parts = [edl_loss(one, target, kl_weight=0.3) for one in (evidence, 2 * evidence)]
    found = edl_loss(stacked, target.unsqueeze(1), kl_weight=0.3)
    assert float(found) == pytest.approx(float(sum(parts)) / 2)


def test_unknown_form_is_named():
    with pytest.raises(OptionError, match="digamma"):
        edl_loss(*problem(), kl_weight=0.0, form="digama")  # type: ignore[arg-type]


def test_conflict_by_loops():
    evidence = torch.from_numpy(np.random.default_rng(1).exponential(4, (ROWS, 3, CLASSES)))
    total = 0.0
    for row in evidence:
        for i in range(3):
            for j in range(3):
                if i != j:
                    total += float(degree_of_conflict(row[i], row[j])) / 2
    assert float(conflict_loss(evidence)) == pytest.approx(total / ROWS)
    assert float(conflict_loss(evidence[:, :1])) == 0


def cmd(x: torch.Tensor, y: torch.Tensor, **options: float) -> torch.Tensor:
    return similarity_loss(torch.stack([x, y], dim=1), **options)


def orthogonality(x: torch.Tensor, y: torch.Tensor, **options: str) -> torch.Tensor:
    return difference_loss(x.unsqueeze(1), y.unsqueeze(1), **options)


def cmd_by_loops(x: np.ndarray, y: np.ndarray, moments: int, span: float) -> float:
    found = np.sqrt(((x.mean(0) - y.mean(0)) ** 2).sum()) / span
    for k in range(2, moments + 1):
        a, b = (((z - z.mean(0)) ** k).mean(0) for z in (x, y))
        found += np.sqrt(((a - b) ** 2).sum()) / span**k
    return float(found)


@pytest.mark.parametrize(("moments", "span"), [(5, 1.0), (3, 2.0), (1, 1.0)])
def test_cmd_by_loops(moments, span):
    x, y = codes(0, 7, 3), codes(1, 7, 3)
    expected = cmd_by_loops(x.numpy(), y.numpy(), moments, span)
    assert float(cmd(x, y, moments=moments, span=span)) == pytest.approx(expected)


def test_cmd_of_equals_has_zero_gradient():
    x = codes(0, 7, 3).requires_grad_()
    cmd(x, x.detach().clone()).backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) == 0


def test_similarity_is_the_mean_over_pairs():
    shared = codes(2, 7, 4, 3)
    pairs = [cmd(shared[:, i], shared[:, j]) for i, j in combinations(range(4), 2)]
    assert float(similarity_loss(shared)) == pytest.approx(float(sum(pairs)) / 6)
    assert float(similarity_loss(shared[:, :1])) == 0


def overlap_by_loops(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    def unit(z: np.ndarray) -> np.ndarray:
        z = z - z.mean(0)
        return z / (np.sqrt((z**2).sum(1, keepdims=True)) + 1e-6)

    return (unit(x).T @ unit(y)) ** 2


def test_orthogonality_by_loops():
    x, y = codes(0, 7, 3), codes(1, 7, 3)
    square = overlap_by_loops(x.numpy(), y.numpy())
    assert float(orthogonality(x, y)) == pytest.approx(square.mean())
    assert float(orthogonality(x, y, scale="batch")) == pytest.approx(square.sum() / 49)


@pytest.mark.parametrize("scale", ["mean", "batch"])
@pytest.mark.parametrize("views", [1, 2, 3])
def test_difference_by_loops(scale, views):
    private, shared = codes(0, 7, views, 3), codes(1, 7, views, 3)
    expected = sum(
        float(orthogonality(private[:, v], shared[:, v], scale=scale)) for v in range(views)
    ) + sum(
        float(orthogonality(private[:, i], private[:, j], scale=scale))
        for i, j in combinations(range(views), 2)
    )
    assert float(difference_loss(private, shared, scale=scale)) == pytest.approx(expected)


def test_the_norm_in_orthogonality_is_held_constant():
    x, y = codes(0, 7, 3).requires_grad_(), codes(1, 7, 3)
    orthogonality(x, y).backward()
    length = np.linalg.norm(x.detach().numpy() - x.detach().numpy().mean(0), axis=1)

    def held(flat: torch.Tensor) -> torch.Tensor:
        centred = flat - flat.mean(0)
        unit = centred / (torch.from_numpy(length)[:, None] + 1e-6)
        other = y - y.mean(0)
        other = other / (other.norm(dim=1, keepdim=True) + 1e-6)
        return (unit.T @ other).square().mean()

    expected = torch.autograd.functional.jacobian(held, x.detach())
    np.testing.assert_allclose(x.grad, expected, atol=1e-12)


def test_reconstruction_is_the_mean_over_views_of_square_errors():
    x, y = codes(0, 7, 3, 4), codes(1, 7, 3, 4)
    each = [((x[:, v] - y[:, v]) ** 2).mean() for v in range(3)]
    assert float(reconstruction_loss(x, y)) == pytest.approx(float(sum(each)) / 3)


FORMS = [partial(edl_loss, form=form) for form in get_args(EDLForm)]


@pytest.mark.parametrize("loss", [*FORMS, dirichlet_kl])
def test_gradients_of_evidence(loss):
    evidence, target = problem(soft=True)
    assert torch.autograd.gradcheck(lambda e: loss(e, target), evidence.requires_grad_())


def test_gradients_of_codes():
    x, y = codes(0, 6, 2, 3).requires_grad_(), codes(1, 6, 2, 3)
    assert torch.autograd.gradcheck(similarity_loss, x)
    assert torch.autograd.gradcheck(lambda z: reconstruction_loss(z, y), x)
    evidence = (3 * codes(2, 6, 3, 4)).requires_grad_()
    assert torch.autograd.gradcheck(conflict_loss, evidence)
