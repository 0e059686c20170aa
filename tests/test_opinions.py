"""Opinions against scipy, torch.distributions, plain loops and properties, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats

from rcml_misa.exceptions import OptionError
from rcml_misa.opinions import (
    Opinion,
    degree_of_conflict,
    dissonance,
    entropy,
    fuse,
    mean_conflict,
    mutual_information,
    pairwise_conflict,
)

OPERATORS = ("mean", "pairwise", "geometric", "cumulative", "dempster")
quick = settings(max_examples=40, deadline=None, derandomize=True)
evidences = arrays(np.float64, (3, 4), elements=st.floats(0, 50, allow_subnormal=False)).map(
    torch.from_numpy
)


def stack(seed: int = 0, opinions: int = 3, classes: int = 4) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).exponential(5, (6, opinions, classes)))


def test_opinion_is_the_mean_of_its_dirichlet():
    evidence = torch.tensor([3.0, 0.0, 1.5], dtype=torch.float64)
    opinion = Opinion(evidence)
    np.testing.assert_allclose(
        opinion.projected_probability, stats.dirichlet.mean(opinion.alpha.numpy())
    )
    np.testing.assert_allclose(entropy(evidence), stats.entropy(opinion.projected_probability))
    assert float(opinion.uncertainty) == pytest.approx(3 / 7.5)
    assert float(opinion.projected_probability.amax()) == pytest.approx(4 / 7.5)


@quick
@given(evidences)
def test_beliefs_and_uncertainty_sum_to_one(evidence):
    opinion = Opinion(evidence)
    np.testing.assert_allclose(opinion.belief.sum(-1) + opinion.uncertainty, 1)
    assert ((opinion.uncertainty > 0) & (opinion.uncertainty <= 1)).all()


def test_mutual_information_by_integration():
    evidence = torch.tensor([2.0, 0.5], dtype=torch.float64)
    a, b = 3.0, 1.5

    def entropy_of(p: float) -> float:
        return -(p * np.log(p) + (1 - p) * np.log(1 - p))

    expected, _ = integrate.quad(lambda p: entropy_of(p) * stats.beta.pdf(p, a, b), 0, 1)
    total = stats.entropy([a / (a + b), b / (a + b)])
    assert float(mutual_information(evidence)) == pytest.approx(total - expected, abs=1e-7)


def test_dissonance_by_loops():
    for evidence in stack()[:, 0]:
        belief = Opinion(evidence).belief.tolist()
        found = 0.0
        for k, own in enumerate(belief):
            others = [b for j, b in enumerate(belief) if j != k]
            balance = [b * (1 - abs(b - own) / (b + own)) for b in others]
            found += own * sum(balance) / sum(others)
        assert float(dissonance(evidence)) == pytest.approx(found)


def test_conflict_by_loops():
    for evidence in stack():
        found = pairwise_conflict(evidence)
        for i in range(3):
            for j in range(3):
                p, q = ((e + 1) / (e.sum() + 4) for e in (evidence[i], evidence[j]))
                u, v = (4 / (e.sum() + 4) for e in (evidence[i], evidence[j]))
                expected = float((p - q).abs().sum() / 2 * (1 - u) * (1 - v))
                assert float(found[i, j]) == pytest.approx(expected)
        pairs = [float(found[i, j]) for i in range(3) for j in range(3) if i != j]
        assert float(mean_conflict(evidence)) == pytest.approx(np.mean(pairs))


@quick
@given(evidences)
def test_conflict_lies_in_the_unit_interval_and_is_zero_for_equals(evidence):
    conflict = degree_of_conflict(evidence[0], evidence[1])
    assert 0 <= float(conflict) <= 1
    assert float(degree_of_conflict(evidence[0], evidence[0])) == 0
    assert float(mean_conflict(evidence[:1])) == 0


@quick
@given(evidences, st.permutations(range(3)))
@pytest.mark.parametrize("operator", [name for name in OPERATORS if name != "pairwise"])
def test_fusion_does_not_depend_on_the_order(operator, evidence, order):
    np.testing.assert_allclose(
        fuse(evidence, operator=operator), fuse(evidence[list(order)], operator=operator), rtol=1e-6
    )


@pytest.mark.parametrize("operator", OPERATORS)
def test_weight_zero_is_absence(operator):
    evidence = stack()
    for absent in range(3):
        weights = torch.ones(6, 3, dtype=torch.float64)
        weights[:, absent] = 0
        present = [view for view in range(3) if view != absent]
        np.testing.assert_allclose(
            fuse(evidence, operator=operator, weights=weights),
            fuse(evidence[:, present], operator=operator),
        )
    nothing = fuse(evidence, operator=operator, weights=torch.zeros(6, 3, dtype=torch.float64))
    assert float(nothing.abs().max()) == 0


@pytest.mark.parametrize("operator", ["cumulative", "dempster"])
def test_a_vacuous_opinion_is_neutral(operator):
    evidence = stack()
    vacuous = torch.cat([evidence, torch.zeros(6, 1, 4, dtype=torch.float64)], dim=1)
    np.testing.assert_allclose(fuse(vacuous, operator=operator), fuse(evidence, operator=operator))


def test_mean_is_average_belief_fusion():
    # Josang's averaging fusion of two opinions in terms of beliefs and uncertainties
    evidence = stack(opinions=2)
    first, second = Opinion(evidence[:, 0]), Opinion(evidence[:, 1])
    u, v = first.uncertainty[:, None], second.uncertainty[:, None]
    fused = Opinion(fuse(evidence, operator="mean"))
    np.testing.assert_allclose(fused.belief, (first.belief * v + second.belief * u) / (u + v))
    np.testing.assert_allclose(fused.uncertainty[:, None], 2 * u * v / (u + v))


def test_pairwise_weighs_a_quarter_a_quarter_a_half():
    evidence = stack()
    expected = evidence[:, 0] / 4 + evidence[:, 1] / 4 + evidence[:, 2] / 2
    np.testing.assert_allclose(fuse(evidence, operator="pairwise"), expected)


def test_geometric_is_the_exponential_mean_of_logs():
    evidence = stack()
    expected = np.exp(np.log1p(evidence.numpy()).mean(axis=1)) - 1
    np.testing.assert_allclose(fuse(evidence, operator="geometric"), expected)


def test_dempster_by_tmcs_formula():
    evidence = stack(opinions=2)
    fused = Opinion(fuse(evidence, operator="dempster"))
    for row in range(6):
        one, two = Opinion(evidence[row, 0]), Opinion(evidence[row, 1])
        b, c, u, v = one.belief, two.belief, one.uncertainty, two.uncertainty
        clash = sum(b[i] * c[j] for i in range(4) for j in range(4) if i != j)
        np.testing.assert_allclose(fused.belief[row], (b * c + b * v + c * u) / (1 - clash))
        np.testing.assert_allclose(fused.uncertainty[row], u * v / (1 - clash))


def test_an_unknown_operator_is_named():
    with pytest.raises(OptionError, match="geometric"):
        fuse(stack(), operator="geometrc")  # type: ignore[arg-type]
