"""Normal-inverse-gamma opinions against scipy's distributions and plain loops, in float64."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from rcml_misa.exceptions import OptionError
from rcml_misa.opinions.nig import NIG, fuse_nig, nig_gains, nig_loss, nig_nll, nig_regulariser

positive = st.floats(0.05, 20)
opinion = st.tuples(st.floats(-5, 5), positive, st.floats(1.05, 20), positive)
SETTINGS = settings(max_examples=60, deadline=None)


def nig(*rows: tuple[float, ...]) -> NIG:
    columns = np.array(rows, dtype=np.float64).T
    return NIG(*(torch.from_numpy(column) for column in columns))


@given(values=opinion, target=st.floats(-8, 8))
@SETTINGS
def test_likelihood_is_that_of_scipys_student_t(values, target) -> None:
    gamma, nu, alpha, beta = values
    scale = np.sqrt(beta * (1 + nu) / (nu * alpha))
    wanted = -stats.t.logpdf(target, df=2 * alpha, loc=gamma, scale=scale)
    found = nig_nll(nig(values), torch.tensor([target], dtype=torch.float64))
    assert found.item() == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert nig(values).scale.item() == pytest.approx(scale)
    assert nig(values).degrees.item() == 2 * alpha


@given(values=opinion)
@SETTINGS
def test_moments_are_those_of_the_distributions(values) -> None:
    _, nu, alpha, beta = values
    found = nig(values)
    assert found.aleatoric.item() == pytest.approx(stats.invgamma(alpha, scale=beta).mean())
    mean = stats.t(2 * alpha, scale=np.sqrt(beta / (alpha * nu)))  # marginal of mu
    assert found.epistemic.item() == pytest.approx(mean.var(), rel=1e-9)
    predictive = stats.t(2 * alpha, scale=found.scale.item())
    assert found.deviation.item() == pytest.approx(predictive.std(), rel=1e-9)
    assert found.relative_epistemic.item() == pytest.approx(nu**-0.5)


def test_likelihood_is_the_integral_over_means_and_variances() -> None:
    gamma, nu, alpha, beta, target = 0.3, 1.7, 2.4, 0.9, 1.1

    def density(variance: float) -> float:
        # the mean integrated out: N(target; gamma, variance (1 + 1 / nu))
        spread = np.sqrt(variance * (1 + 1 / nu))
        return stats.norm.pdf(target, gamma, spread) * stats.invgamma.pdf(
            variance, alpha, scale=beta
        )

    wanted, _ = integrate.quad(density, 0, np.inf)
    found = nig_nll(nig((gamma, nu, alpha, beta)), torch.tensor([target], dtype=torch.float64))
    assert found.exp().reciprocal().item() == pytest.approx(wanted, rel=1e-7)


def test_likelihood_does_not_see_the_split_of_the_variance() -> None:
    # beta (1 + nu) / nu is all that counts: Meinert, Gawlikowski and Lavin
    one, other = nig((0.2, 1.0, 3.0, 2.0)), nig((0.2, 4.0, 3.0, 2.0 * 2 / 1.25))
    target = torch.linspace(-3, 3, 7, dtype=torch.float64)
    torch.testing.assert_close(nig_nll(one, target), nig_nll(other, target))
    assert one.epistemic.item() != pytest.approx(other.epistemic.item())


def pairwise(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    """The summation of two normal-inverse-gammas, as Ma et al. define it."""
    gamma = (a[1] * a[0] + b[1] * b[0]) / (a[1] + b[1])
    beta = a[3] + b[3] + 0.5 * a[1] * (a[0] - gamma) ** 2 + 0.5 * b[1] * (b[0] - gamma) ** 2
    return gamma, a[1] + b[1], a[2] + b[2] + 0.5, beta


@given(opinions=st.lists(opinion, min_size=1, max_size=4))
@SETTINGS
def test_fusion_is_the_papers_fold_in_any_order(opinions) -> None:
    found = [float(part) for part in fuse_nig(nig(*opinions))]
    for order in permutations(opinions):
        folded = order[0]
        for one in order[1:]:
            folded = pairwise(folded, one)
        assert found == pytest.approx(folded, rel=1e-9, abs=1e-9)


@given(opinions=st.lists(opinion, min_size=2, max_size=4))
@SETTINGS
def test_an_opinion_of_weight_zero_is_absent(opinions) -> None:
    weights = torch.ones(len(opinions), dtype=torch.float64)
    weights[1] = 0
    rest = [one for place, one in enumerate(opinions) if place != 1]
    for a, b in zip(fuse_nig(nig(*opinions), weights), fuse_nig(nig(*rest)), strict=True):
        torch.testing.assert_close(a, b)


def test_views_that_differ_make_the_deviation_grow() -> None:
    agree = fuse_nig(nig((0.0, 1.0, 2.0, 1.0), (0.0, 1.0, 2.0, 1.0)))
    differ = fuse_nig(nig((-2.0, 1.0, 2.0, 1.0), (2.0, 1.0, 2.0, 1.0)))
    assert differ.gamma == agree.gamma
    assert differ.deviation.item() == pytest.approx(3**0.5 * agree.deviation.item())


def test_penalties_are_evidence_times_error() -> None:
    values, target = (0.5, 2.0, 3.0, 4.0), torch.tensor([2.0], dtype=torch.float64)
    scale = np.sqrt(4.0 * 3 / (2 * 3.0))
    assert nig_regulariser(nig(values), target).item() == pytest.approx(1.5 * 7)
    found = nig_regulariser(nig(values), target, form="meinert")
    assert found.item() == pytest.approx(1.5 / scale * 7)
    with pytest.raises(OptionError, match="did you mean amini"):
        nig_regulariser(nig(values), target, form="amin")


def test_the_scaled_penalty_does_not_depend_on_the_targets_unit() -> None:
    gamma, nu, alpha, beta = 0.5, 2.0, 3.0, 4.0
    small = nig_regulariser(
        nig((gamma, nu, alpha, beta)), torch.tensor([2.0], dtype=torch.float64), form="meinert"
    )
    large = nig_regulariser(
        nig((10 * gamma, nu, alpha, 100 * beta)),
        torch.tensor([20.0], dtype=torch.float64),
        form="meinert",
    )
    torch.testing.assert_close(small, large)


def test_loss_is_the_mean_of_both_parts_and_has_true_gradients() -> None:
    rng = np.random.default_rng(0)
    raw = [rng.normal(size=6), *(rng.uniform(0.2, 3, 6) for _ in range(3))]
    raw[2] += 1
    parts = [torch.from_numpy(one).requires_grad_() for one in raw]
    target = torch.from_numpy(rng.normal(size=6))
    loss = nig_loss(NIG(*parts), target, weight=0.1)
    wanted = nig_nll(NIG(*parts), target) + 0.1 * nig_regulariser(NIG(*parts), target)
    torch.testing.assert_close(loss, wanted.mean())
    assert torch.autograd.gradcheck(lambda *given: nig_loss(NIG(*given), target, weight=0.1), parts)


@given(st.integers(2, 5), st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_gains_are_falls_of_the_scale_where_an_opinion_agrees(count, seed) -> None:
    rng = np.random.default_rng(seed)
    positive_parts = rng.exponential(size=(3, count)) + np.array([[0.1], [1.0], [0.1]])
    parts = [rng.normal(size=count), *positive_parts]
    opinions = NIG(*(torch.from_numpy(part) for part in parts))
    gains = nig_gains(opinions)
    for number in range(count):
        others = torch.arange(count) != number
        score = fuse_nig(NIG(*(part[others] for part in opinions))).gamma
        agreeing = opinions._replace(gamma=torch.where(others, opinions.gamma, score))
        fall = (fuse_nig(opinions).scale / fuse_nig(agreeing).scale).log()
        assert gains[number] == pytest.approx(fall.item(), abs=1e-10)
    order = torch.from_numpy(rng.permutation(count))
    turned = nig_gains(NIG(*(part[order] for part in opinions)))
    torch.testing.assert_close(turned, gains[order])


def test_gains_of_absent_and_lonely_opinions() -> None:
    parts = torch.tensor([[0.0, 3.0, 9.0]] * 2), *torch.ones(3, 2, 3)
    present = torch.tensor([[True, True, False], [False, True, False]])
    gains = nig_gains(NIG(*parts), present)
    pair = nig_gains(NIG(*(part[0, :2] for part in parts)))
    torch.testing.assert_close(gains[0, :2], pair)
    assert gains.isnan().tolist() == [[False, False, True], [True, False, True]]
    assert gains[1, 1] == 0
