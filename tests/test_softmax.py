"""Softmax networks, their posteriors, and the Dirichlet of an ensemble's moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import log_softmax, softmax

from rcml_misa.estimators import EnsembleDirichletClassifier, SoftmaxClassifier
from rcml_misa.exceptions import OptionError
from rcml_misa.experts.laplace import LastLayerLaplace
from rcml_misa.metrics.answers import ask, uncertainty_scores
from rcml_misa.opinions import (
    Opinion,
    dirichlet_of_members,
    evidence_of_members,
    members_information,
)
from rcml_misa.views import MultiView

POSTERIORS = ("none", "ensemble", "mc-dropout", "laplace")
QUICK = {"epochs": 5, "hidden": (8, 8), "networks": 2, "device": "cpu", "random_state": 0}


def problem(rows: int = 90, seed: int = 0) -> tuple[MultiView, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    first = np.eye(3)[y] + rng.normal(0, 0.3, (rows, 3))
    return MultiView({"a": first, "b": rng.normal(y[:, None], 0.5, (rows, 2))}), y


def member_probabilities(seed: int, members: int, classes: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.dirichlet(rng.uniform(0.05, 3, classes), size=(4, members)))


# moments


@pytest.mark.parametrize("alpha", [[2.0, 5.0, 3.0], [0.3, 0.1, 0.7, 0.2], [40.0, 1.0]])
def test_the_dirichlet_of_many_draws_is_the_one_drawn_from(alpha):
    draws = np.random.default_rng(0).dirichlet(alpha, size=400_000)
    found = dirichlet_of_members(torch.from_numpy(draws)).numpy()
    np.testing.assert_allclose(found, alpha, rtol=0.01)
    evidence = evidence_of_members(torch.from_numpy(draws)).numpy()
    np.testing.assert_allclose(evidence, np.maximum(np.subtract(alpha, 1), 0), atol=0.05, rtol=0.01)


@given(seed=st.integers(0, 1000), members=st.integers(2, 7), classes=st.integers(2, 6))
def test_mean_and_total_variance_are_the_members(seed, members, classes):
    p = member_probabilities(seed, members, classes)
    alpha = dirichlet_of_members(p).numpy()
    np.testing.assert_allclose(
        alpha / alpha.sum(axis=1, keepdims=True), p.mean(dim=1).numpy(), atol=1e-12
    )
    # the strength is that at which expected impurity and total variance have the members' ratio
    for row, values in zip(alpha, p.numpy(), strict=True):
        law = stats.dirichlet(np.maximum(row, 1e-290))
        variance, mean = law.var().sum(), law.mean()
        impurity = 1 - (mean**2).sum() - variance
        wanted = (1 - (values**2).sum(axis=1)).mean() / values.var(axis=0, ddof=1).sum()
        assert impurity / variance == pytest.approx(np.clip(wanted, 1e-6, 1e6), rel=1e-6)


@given(seed=st.integers(0, 1000), members=st.integers(2, 7), classes=st.integers(2, 6))
def test_an_opinion_of_members_has_evidence_and_their_class(seed, members, classes):
    p = member_probabilities(seed, members, classes)
    evidence, alpha = evidence_of_members(p), dirichlet_of_members(p)
    assert (evidence >= 0).all()
    assert (evidence.argmax(dim=1) == p.mean(dim=1).argmax(dim=1)).all()
    full = (alpha >= 1 + 1e-5).all(dim=1)
    strength = Opinion(evidence).strength[full, 0]
    np.testing.assert_allclose(strength, alpha[full].sum(dim=1), rtol=1e-9)
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    np.testing.assert_allclose(evidence_of_members(p[..., order]), evidence[..., order], rtol=1e-9)


def test_equal_members_are_certain_and_contradicting_ones_vacuous():
    same = torch.tensor([[0.7, 0.3]] * 3, dtype=torch.float64)
    assert Opinion(evidence_of_members(same)).uncertainty < 1e-5
    apart = torch.eye(3, dtype=torch.float64)
    assert Opinion(evidence_of_members(apart)).uncertainty == pytest.approx(1, abs=1e-6)
    # two of three say the last class, which counts although no parameter reaches 1
    assert evidence_of_members(apart[[0, 2, 2]]).argmax() == 2


@given(seed=st.integers(0, 1000), members=st.integers(1, 7), classes=st.integers(2, 6))
def test_mutual_information_is_a_mean_divergence(seed, members, classes):
    p = member_probabilities(seed, members, classes)
    mean = p.mean(dim=1, keepdim=True).expand_as(p)
    wanted = stats.entropy(p.numpy(), mean.numpy(), axis=-1).mean(axis=1)
    found = members_information(p).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert (found >= 0).all()
    assert (members_information(mean) <= 1e-12).all()


def test_mutual_information_takes_zeros():
    certain = torch.eye(2, dtype=torch.float64)
    assert float(members_information(certain)) == pytest.approx(np.log(2))


# last-layer Laplace


def curvature_by_autograd(features, codes, coefficients):
    """Hessian of the summed negative log-likelihood of the weights (K, D), class by class."""
    x, y = torch.from_numpy(features), torch.from_numpy(codes)

    def loss(flat):
        logits = x @ flat.reshape(coefficients.shape).T
        return torch.nn.functional.cross_entropy(logits, y, reduction="sum")

    return torch.autograd.functional.hessian(loss, torch.from_numpy(coefficients.ravel())).numpy()


@pytest.mark.parametrize("case", ["even probabilities", "equal features"])
def test_laplace_is_that_of_the_exact_hessian_where_factors_are(case):
    rng = np.random.default_rng(0)
    features, codes = rng.normal(size=(12, 3)), rng.integers(0, 4, 12)
    coefficients = rng.normal(size=(4, 3))
    if case == "even probabilities":
        coefficients = np.tile(coefficients[:1], (4, 1))
    else:
        features = np.tile(features[:1], (12, 1))
    hessian = curvature_by_autograd(features, codes, coefficients)
    probability = softmax(features @ coefficients.T, axis=1)
    posterior = LastLayerLaplace.fit(features, probability, coefficients, prior_precision=0.7)
    inverse = np.linalg.inv(hessian + 0.7 * np.eye(12))
    new = rng.normal(size=(5, 3))
    jacobian = np.stack([np.kron(np.eye(4), row) for row in new])  # (5, K, K D)
    wanted = jacobian @ inverse @ jacobian.transpose(0, 2, 1)
    np.testing.assert_allclose(posterior.covariance(new), wanted, rtol=1e-8, atol=1e-12)
    # and the predictive is the mean over draws of the weights
    draws = rng.standard_normal((200_000, 4))
    logits = new @ coefficients.T
    found = softmax(posterior.sample(logits, new, draws), axis=-1).mean(axis=1)
    weights = rng.multivariate_normal(coefficients.ravel(), inverse, size=200_000)
    drawn = np.einsum("nd,tkd->ntk", new, weights.reshape(-1, 4, 3))
    np.testing.assert_allclose(found, softmax(drawn, axis=-1).mean(axis=1), atol=4e-3)


def test_weights_of_rows_count_as_repeated_rows():
    rng = np.random.default_rng(0)
    features, coefficients = rng.normal(size=(6, 3)), rng.normal(size=(2, 3))
    probability = softmax(features @ coefficients.T, axis=1)
    counts = np.array([1, 2, 1, 3, 1, 4])
    twice = np.repeat(np.arange(6), counts)
    one = LastLayerLaplace.fit(features, probability, coefficients, counts.astype(float))
    two = LastLayerLaplace.fit(features[twice], probability[twice], coefficients)
    assert one.prior_precision == pytest.approx(two.prior_precision)
    np.testing.assert_allclose(one.covariance(features), two.covariance(features))


def test_prior_precision_has_the_largest_marginal_likelihood():
    rng = np.random.default_rng(0)
    features, coefficients = rng.normal(size=(40, 3)), rng.normal(size=(3, 3))
    probability = softmax(features @ coefficients.T, axis=1)
    found = LastLayerLaplace.fit(features, probability, coefficients)
    curvature = np.kron(
        found.class_axes @ np.diag(found.class_curvature) @ found.class_axes.T,
        features.T @ features / 40,
    )

    def log_evidence(precision):
        weights = stats.multivariate_normal(np.zeros(9), np.eye(9) / precision)
        _, volume = np.linalg.slogdet(curvature + precision * np.eye(9))
        return weights.logpdf(coefficients.ravel()) - volume / 2

    best = log_evidence(found.prior_precision)
    assert 1e-3 < found.prior_precision < 1e3
    for factor in (0.9, 1.1, 0.01, 100):
        assert log_evidence(found.prior_precision * factor) < best


def test_best_precision_by_a_plain_loop():
    rng = np.random.default_rng(0)
    features, coefficients = rng.normal(size=(30, 3)), 3 * rng.normal(size=(3, 3))
    logits = features @ coefficients.T
    posterior = LastLayerLaplace.fit(features, softmax(logits, axis=1), coefficients)
    codes, draws = rng.integers(0, 3, 30), rng.standard_normal((20, 3))
    found = posterior.best_precision(logits, features, draws, codes)
    losses = {}
    for precision in np.logspace(-2, 6, 33):
        other = LastLayerLaplace.fit(
            features, softmax(logits, axis=1), coefficients, prior_precision=precision
        )
        p = np.exp(log_softmax(other.sample(logits, features, draws), axis=2)).mean(axis=1)
        losses[precision] = -np.log(p[np.arange(30), codes]).mean()
    assert found == pytest.approx(min(losses, key=losses.get))
    assert found < 1e5  # labels at random: wide posteriors are better


# estimators


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_what_a_posterior_states(posterior):
    X, y = problem()
    model = SoftmaxClassifier(posterior=posterior, **QUICK | {"epochs": 30}).fit(X, y)
    p, uncertainty = model.predict_proba(X), model.predict_uncertainty(X)
    assert (model.predict(X) == y).mean() > 0.8
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(uncertainty, stats.entropy(p, axis=1) / np.log(3))
    np.testing.assert_array_equal(p, model.predict_proba(X))  # nothing is drawn anew
    assert len(model.module_) == model.networks_ == (2 if posterior == "ensemble" else 1)
    scores = uncertainty_scores(ask(model, X, 3))
    assert ("mutual_information" in scores) == (posterior != "none")
    assert hasattr(model, "predict_mutual_information") == (posterior != "none")
    if posterior != "none":
        information = model.predict_mutual_information(X)
        np.testing.assert_array_equal(scores["mutual_information"], information)
        assert (information >= 0).all()
        assert (information <= stats.entropy(p, axis=1) + 1e-12).all()
        assert information.max() > 0
    again = SoftmaxClassifier(posterior=posterior, **QUICK | {"epochs": 30}).fit(X, y)
    np.testing.assert_array_equal(p, again.predict_proba(X))


def test_an_ensemble_is_the_mean_of_its_networks():
    X, y = problem()
    model = SoftmaxClassifier(posterior="ensemble", **QUICK).fit(X, y)
    p = model.predict_proba(X)
    networks = list(model.module_)
    each = []
    for network in networks:
        model.module_ = torch.nn.ModuleList([network])
        each.append(model.predict_proba(X))
        np.testing.assert_allclose(model.predict_mutual_information(X), 0, atol=1e-12)
    assert np.abs(each[0] - each[1]).max() > 1e-3
    np.testing.assert_allclose(p, np.mean(each, axis=0), atol=1e-12)


def test_no_dropout_leaves_nothing_to_draw():
    X, y = problem()
    model = SoftmaxClassifier(posterior="mc-dropout", dropout=0.0, **QUICK).fit(X, y)
    np.testing.assert_allclose(model.predict_mutual_information(X), 0, atol=1e-12)
    plain = SoftmaxClassifier(dropout=0.0, **QUICK).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), plain.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("posterior", ["ensemble", "mc-dropout", "laplace"])
def test_members_differ_more_off_the_data(posterior):
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    X = rng.normal(size=(200, 2)) + 4 * y[:, None]
    X[:, 1] = rng.normal(size=200)
    options = {"epochs": 40, "hidden": (32,), "scaling": "standard", "features": "plain"}
    model = SoftmaxClassifier(
        posterior=posterior, views=[1, 1], random_state=0, device="cpu", **options
    ).fit(X, y)
    between = np.column_stack([np.full(50, 2.0), 8 * rng.choice([-1.0, 1.0], 50)])
    off, on = model.predict_mutual_information(between), model.predict_mutual_information(X)
    assert np.median(off) > 5 * np.median(on)


def test_an_ensemble_states_opinions():
    X, y = problem()
    model = EnsembleDirichletClassifier(**QUICK).fit(X, y)
    plain = SoftmaxClassifier(posterior="ensemble", **QUICK).fit(X, y)
    opinion = model.predict_opinion(X)
    assert opinion.views == {}
    assert opinion.shared.shape == (90, 0, 3)
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))
    assert (opinion.evidence >= 0).all()
    np.testing.assert_allclose(opinion.belief.sum(axis=1) + opinion.uncertainty, 1)
    assert opinion.to_frame().shape == (90, 5)


@pytest.mark.parametrize("kind", [SoftmaxClassifier, EnsembleDirichletClassifier])
def test_one_network_is_no_ensemble(kind):
    options = QUICK | {"networks": 1}
    options |= {"posterior": "ensemble"} if kind is SoftmaxClassifier else {}
    with pytest.raises(OptionError, match="networks=1 make no ensemble; give 2 or more"):
        kind(**options).fit(*problem())


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_missing_views_weights_and_early_stopping(posterior):
    X, y = problem()
    tables = {name: np.array(X[name]) for name in X.names}
    tables["b"][::5] = np.nan
    weights = np.where(y == 0, 0.0, 1.0)
    weights[:6] = 0.5
    model = SoftmaxClassifier(
        posterior=posterior, early_stopping=True, class_weight="balanced", **QUICK
    ).fit(tables, y, sample_weight=weights)
    assert "validation" in model.history_
    assert np.isfinite(model.predict_proba(tables)).all()
    alone = model.predict_proba({"a": tables["a"]})
    np.testing.assert_allclose(alone.sum(axis=1), 1)


def test_laplace_of_rows_too_few_to_hold_any_out():
    X, y = problem(3)
    model = SoftmaxClassifier(posterior="laplace", **QUICK).fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    likely = SoftmaxClassifier(
        posterior="laplace", prior_precision="marginal-likelihood", **QUICK
    ).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), likely.predict_proba(X))


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_files_hold_every_posterior(posterior, tmp_path):
    import rcml_misa

    X, y = problem()
    model = SoftmaxClassifier(posterior=posterior, samples=5, **QUICK).fit(X, y)
    model.save(tmp_path / "model")
    again = rcml_misa.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()
