"""The peers against their papers' formulas, written out in plain loops, and as estimators."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch.distributions import Dirichlet, kl_divergence

import rcml_misa
from rcml_misa.datasets import load_dataset
from rcml_misa.estimators import (
    CCMLClassifier,
    EDLClassifier,
    ETMCClassifier,
    FUMLClassifier,
    TMCClassifier,
)
from rcml_misa.estimators.registry import recipe
from rcml_misa.exceptions import OptionError
from rcml_misa.losses import credibility_loss, dirichlet_kl, edl_loss
from rcml_misa.nn.peers import (
    CCMLNet,
    DecoupledOpinions,
    FuzzyNet,
    FuzzyOutput,
    MembershipCollector,
    PseudoViewNet,
    ViewOpinions,
    credibility,
    decouple_evidence,
    fuse_memberships,
    fuzzy_uncertainty,
    guided_credibility,
    membership_conflict,
)
from rcml_misa.opinions import fuse
from rcml_misa.views import MultiView

ROWS, VIEWS, CLASSES = 5, 3, 4
calm = settings(deadline=None, max_examples=30, derandomize=True)
KINDS = {
    "edl": EDLClassifier,
    "tmc": TMCClassifier,
    "etmc": ETMCClassifier,
    "ccml": CCMLClassifier,
    "fuml": FUMLClassifier,
}


def evidence(seed: int = 0, *shape: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.exponential(3.0, shape or (ROWS, VIEWS, CLASSES)))


def memberships(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((ROWS, VIEWS, CLASSES)))


def onehot(seed: int = 1) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.eye(CLASSES)[rng.integers(CLASSES, size=ROWS)])


def digamma_loss(e: np.ndarray, y: np.ndarray, kl_weight: float) -> float:
    """Sensoy et al., equation 4 and the KL term, for one opinion about one row."""
    alpha = e + 1
    value = float((y * (special.digamma(alpha.sum()) - special.digamma(alpha))).sum())
    other = torch.from_numpy(y + (1 - y) * alpha)
    flat = Dirichlet(torch.ones(len(e), dtype=torch.float64))
    return value + kl_weight * float(kl_divergence(Dirichlet(other), flat))


# EDL, R-EDL, Re-EDL


def edl_terms(kind: EDLClassifier, fused: torch.Tensor, y: torch.Tensor, annealed: float) -> float:
    empty = fused.unsqueeze(1)[:, :0]
    output = ViewOpinions(fused=fused, private=empty, shared=empty)
    return float(kind._terms(output, y, annealed)["loss"])


@pytest.mark.parametrize("annealed", [0.0, 0.3])
def test_edl_is_expected_square_error_and_kl(annealed):
    e, y = evidence(0, ROWS, CLASSES), onehot()
    wanted = []
    for row in range(ROWS):
        alpha = e[row].numpy() + 1
        gap = ((y[row].numpy() - stats.dirichlet.mean(alpha)) ** 2).sum()
        wanted.append(gap + stats.dirichlet.var(alpha).sum())
        other = torch.as_tensor(y[row] + (1 - y[row]) * (e[row] + 1))
        flat = Dirichlet(torch.ones(CLASSES, dtype=torch.float64))
        wanted[-1] += annealed * float(kl_divergence(Dirichlet(other), flat))
    assert edl_terms(EDLClassifier(form="mse"), e, y, annealed) == pytest.approx(np.mean(wanted))


@pytest.mark.parametrize("name", ["r-edl", "re-edl"])
def test_relaxed_edl_by_its_formula(name):
    made = recipe(name).build(0)
    prior = {"r-edl": 0.1, "re-edl": 0.8}[name]
    assert (made.form, made.prior_weight) == ("projected", prior)
    e, y = evidence(0, ROWS, CLASSES), onehot()
    wanted = []
    for row in range(ROWS):
        p = (e[row] + prior) / (e[row].sum() + CLASSES * prior)
        wanted.append(float(((y[row] - p) ** 2).sum()))
        if name == "r-edl":
            other = (1 - y[row]) * e[row] + prior
            flat = Dirichlet(torch.full((CLASSES,), prior, dtype=torch.float64))
            wanted[-1] += 0.3 * float(kl_divergence(Dirichlet(other), flat))
    assert edl_terms(made, e, y, 0.3) == pytest.approx(np.mean(wanted))


def test_priors_of_one_are_edl():
    e, y = evidence(0, ROWS, CLASSES), onehot()
    for form in ("digamma", "log", "mse", "projected"):
        plain = edl_loss(e, y, kl_weight=0.3, form=form)
        assert float(edl_loss(e, y, kl_weight=0.3, form=form, prior=1.0)) == float(plain)
    assert float(dirichlet_kl(e * y, y, prior=0.2)) == pytest.approx(0, abs=1e-12)
    assert float(edl_loss(1e9 * y, y, form="projected")) == pytest.approx(0, abs=1e-6)


def test_opinions_in_terms_of_another_prior_keep_probability_and_uncertainty():
    X, y = problem()
    model = EDLClassifier(prior_weight=0.2, epochs=3, device="cpu", random_state=0).fit(X, y)
    inputs = model._inputs(model._check_rows(X))
    raw = model.module_(inputs).fused.double().detach().numpy()
    alpha = raw + 0.2
    opinion = model.predict_opinion(X)
    strength = alpha.sum(axis=1)
    np.testing.assert_allclose(opinion.projected_probability, alpha / strength[:, None])
    np.testing.assert_allclose(opinion.uncertainty, 3 * 0.2 / strength)
    np.testing.assert_allclose(opinion.belief, raw / strength[:, None])
    assert opinion.views == {}
    assert (opinion.conflict == 0).all()


# TMC, ETMC


def dempster(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Han et al., definition 4, for the evidence of two opinions."""
    k = len(first)
    (b1, u1), (b2, u2) = ((e / (e.sum() + k), k / (e.sum() + k)) for e in (first, second))
    conflict = sum(b1[i] * b2[j] for i in range(k) for j in range(k) if i != j)
    belief = (b1 * b2 + b1 * u2 + b2 * u1) / (1 - conflict)
    doubt = u1 * u2 / (1 - conflict)
    return belief * k / doubt


def test_dempster_fusion_by_the_papers_definition():
    e = evidence()
    for row in range(ROWS):
        wanted = e[row, 0].numpy()
        for view in range(1, VIEWS):
            wanted = dempster(wanted, e[row, view].numpy())
        np.testing.assert_allclose(fuse(e, operator="dempster")[row], wanted, rtol=1e-9)


def test_many_sure_views_keep_a_gradient():
    e = torch.full((1, 8, 3), 1e-3, dtype=torch.float64)
    e[..., 0] = 500.0
    e.requires_grad_()
    fused = fuse(e, operator="dempster")
    fused.sum().log().backward()
    assert torch.isfinite(fused).all()
    assert float(fused.detach()[0, 0]) > 1e12
    assert (e.grad[..., 0] != 0).all()


@pytest.mark.parametrize("kind", [TMCClassifier, ETMCClassifier])
def test_tmc_loss_is_a_sum_over_views_and_the_combined_opinion(kind):
    e, y = evidence(), onehot()
    if kind is TMCClassifier:
        opinions, fused = VIEWS, fuse(e, operator="dempster")
        output = ViewOpinions(fused=fused, private=e, shared=e[:, :0])
    else:
        pseudo = evidence(7, ROWS, 1, CLASSES)
        every = torch.cat([e, pseudo], dim=1)
        output = ViewOpinions(fused=fuse(every, operator="dempster"), private=e, shared=pseudo)
        opinions, e = VIEWS + 1, every
    wanted = 0.0
    for row in range(ROWS):
        combined = e[row, 0].numpy()
        for view in range(opinions):
            wanted += digamma_loss(e[row, view].numpy(), y[row].numpy(), 0.4)
            combined = dempster(combined, e[row, view].numpy()) if view else combined
        wanted += digamma_loss(combined, y[row].numpy(), 0.4)
    found = kind()._terms(output, y, 0.4)["loss"]
    assert float(found) == pytest.approx(wanted / ROWS)


def test_pseudo_view_sees_all_columns():
    net = PseudoViewNet([2, 3], classes=4)
    assert [one.layers[0].in_features for one in net.collectors] == [2, 3, 5]
    views = [torch.rand(6, 2), torch.rand(6, 3)]
    output = net(views)
    wanted = net.collectors[2](torch.cat(views, dim=1))
    torch.testing.assert_close(output.shared[:, 0], wanted)
    every = torch.cat([output.private, output.shared], dim=1)
    torch.testing.assert_close(output.fused, fuse(every, operator="dempster"))


# CCML


@pytest.mark.parametrize("sharpness", [1.0, 1.25, 2.0])
def test_decoupled_evidence_by_its_formula(sharpness):
    e = evidence()
    consistent, complementary = decouple_evidence(e, sharpness=sharpness)
    for row in range(ROWS):
        views = e[row].numpy()
        least = np.array([min(views[v][k] for v in range(VIEWS)) for k in range(CLASSES)])
        rest = sum(views[v] - least for v in range(VIEWS)) / VIEWS
        strength = least.sum() + CLASSES
        belief = least / strength
        sharp = belief**sharpness * belief.sum() / (belief**sharpness).sum()
        np.testing.assert_allclose(consistent[row], VIEWS * sharp * strength)
        np.testing.assert_allclose(complementary[row], rest)
    # sharpening moves evidence between classes, not in or out
    np.testing.assert_allclose(consistent.sum(-1), VIEWS * e.amin(dim=1).sum(-1))


def test_views_that_agree_leave_nothing_to_complement():
    e = evidence(0, ROWS, 1, CLASSES).expand(ROWS, VIEWS, CLASSES)
    consistent, complementary = decouple_evidence(e, sharpness=1.0)
    assert float(complementary.abs().max()) == 0
    np.testing.assert_allclose(consistent, VIEWS * e[:, 0])
    order = [2, 0, 1]
    for a, b in zip(
        decouple_evidence(evidence(), sharpness=1.25),
        decouple_evidence(evidence()[:, order], sharpness=1.25),
        strict=True,
    ):
        np.testing.assert_allclose(a, b)


def test_ccml_loss_by_its_formula():
    e, y = evidence(), onehot()
    model = CCMLClassifier(complementary_weight=0.7, consistent_kl_weight=0.5)
    model.widths_ = (1,) * VIEWS
    consistent, complementary = decouple_evidence(e, sharpness=1.25)
    output = DecoupledOpinions(
        fused=consistent + complementary,
        private=e,
        shared=e[:, :0],
        consistent=consistent,
        complementary=complementary,
    )
    wanted = 0.0
    for row in range(ROWS):
        truth = y[row].numpy()
        wanted += sum(digamma_loss(e[row, v].numpy(), truth, 0.4) for v in range(VIEWS))
        wanted += digamma_loss(output.consistent[row].numpy(), truth, 0.5 * 0.4)
        wanted += 0.7 * digamma_loss(output.complementary[row].numpy(), truth, 0.0)
    assert float(model._terms(output, y, 0.4)["loss"]) == pytest.approx(wanted / ROWS)
    torch.testing.assert_close(output.fused, output.consistent + output.complementary)


def test_ccml_net_has_one_linear_collector_a_view():
    net = CCMLNet([2, 3], classes=4)
    output = net([torch.rand(6, 2), torch.rand(6, 3)])
    assert output.private.shape == (6, 2, 4)
    assert output.shared.shape == (6, 0, 4)
    assert [len(one.layers) for one in net.collectors] == [1, 1]


# FUML


def test_credibility_and_necessity_by_their_definitions():
    m, y = memberships(), onehot()
    found, guided = credibility(m), guided_credibility(m, y.unsqueeze(1))
    for row in range(ROWS):
        true = int(y[row].argmax())
        for view in range(VIEWS):
            values = m[row, view].numpy()
            for k in range(CLASSES):
                others = max(values[j] for j in range(CLASSES) if j != k)
                wanted = (values[k] + 1 - others) / 2
                assert float(found[row, view, k]) == pytest.approx(wanted)
                if k != true:
                    wanted = (values[k] + 1 - values[true]) / 2
                assert float(guided[row, view, k]) == pytest.approx(wanted)


def test_credibility_of_ties():
    tied = torch.tensor([0.6, 0.6, 0.1])
    torch.testing.assert_close(credibility(tied), torch.tensor([0.5, 0.5, 0.25]))


def test_fuzzy_uncertainty_is_a_mean_binary_entropy():
    c = memberships()
    wanted = stats.entropy(np.stack([c, 1 - c]), axis=0, base=2).mean(axis=-1)
    np.testing.assert_allclose(fuzzy_uncertainty(c), wanted, atol=1e-9)
    assert float(fuzzy_uncertainty(torch.tensor([1.0, 0.0]))) == pytest.approx(0, abs=1e-6)
    above = fuzzy_uncertainty(torch.tensor([1.0 + 1e-7, 0.0]))
    assert float(above) == pytest.approx(0, abs=1e-6)


def test_conflict_and_fusion_by_their_formulas():
    m = memberships()
    c = credibility(m)
    conflict, fused = membership_conflict(m), fuse_memberships(m, c)
    for row in range(ROWS):
        views, weights = m[row].numpy(), []
        for v in range(VIEWS):
            apart = [
                1 - views[v] @ views[j] / (np.linalg.norm(views[v]) * np.linalg.norm(views[j]))
                for j in range(VIEWS)
                if j != v
            ]
            assert float(conflict[row, v]) == pytest.approx(sum(apart) / (VIEWS - 1))
            doubt = stats.entropy([c[row, v].numpy(), 1 - c[row, v].numpy()], base=2).mean()
            weights.append(math.exp((1 - doubt) * (1 - sum(apart) / (VIEWS - 1))))
        wanted = sum(w * one for w, one in zip(weights, views, strict=True)) / sum(weights)
        np.testing.assert_allclose(fused[row], wanted, rtol=1e-8)


@calm
@given(seed=st.integers(0, 999))
def test_fuzzy_fusion_does_not_depend_on_the_order_of_views(seed):
    m = memberships(seed)
    order = np.random.default_rng(seed).permutation(VIEWS)
    torch.testing.assert_close(
        fuse_memberships(m, credibility(m)),
        fuse_memberships(m[:, order], credibility(m[:, order])),
    )


def test_one_view_has_no_conflict():
    m = memberships()[:, :1]
    assert float(membership_conflict(m).abs().max()) == 0
    torch.testing.assert_close(fuse_memberships(m, credibility(m)), m[:, 0])


def test_fuml_loss_by_its_formula():
    m, y = memberships(), onehot()
    guided = guided_credibility(m, y.unsqueeze(1))

    def cross(r: torch.Tensor, truth: torch.Tensor) -> float:
        return float(-(truth * r.log() + (1 - truth) * (1 - r).log()).sum())

    wanted = 0.0
    for row in range(ROWS):
        wanted += sum(cross(guided[row, v], y[row]) for v in range(VIEWS))
        fused = fuse_memberships(m[row], guided[row])
        wanted += cross(guided_credibility(fused, y[row]), y[row])
    output = FuzzyOutput(m, fuse_memberships(m, credibility(m)))
    found = FUMLClassifier()._terms(output, y, 0.0)["loss"]
    assert float(found) == pytest.approx(wanted / ROWS)
    sure = torch.tensor([[1.0, 0.0]])
    assert float(credibility_loss(sure, sure)) == pytest.approx(0, abs=1e-5)
    assert math.isfinite(float(credibility_loss(1 - sure, sure)))


def test_memberships_are_logits_over_their_norm_cut_at_zero():
    collect = MembershipCollector([3, 3], classes=4, dropout=0.5, order=3.0).double().eval()
    x = torch.randn(6, 3, dtype=torch.float64)
    logits = collect.layers(x).detach().numpy()
    norm = (np.abs(logits) ** 3).sum(axis=1, keepdims=True) ** (1 / 3)
    np.testing.assert_allclose(collect(x).detach(), np.maximum(logits / norm, 0))
    net = FuzzyNet([2, 5], classes=4, layers=3)
    shapes = [
        [layer.weight.shape for layer in one.layers if hasattr(layer, "weight")]
        for one in net.collectors
    ]
    assert shapes == [[(2, 2), (2, 2), (4, 2)], [(5, 5), (5, 5), (4, 5)]]


# as estimators


def problem(views: int = 2, rows: int = 60) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(rows) % 3
    X = {
        f"view{v}": 2 * rng.normal(size=(3, 3 + v))[y] + rng.normal(size=(rows, 3 + v))
        for v in range(views)
    }
    return X, np.array(["ant", "bee", "cat"])[y]


def fitted(name: str, views: int = 2, **options):
    X, y = problem(views)
    given = {"epochs": 4, "batch_size": 32, "device": "cpu", "random_state": 0} | options
    return KINDS[name](**given).fit(X, y), X, y


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("name", KINDS)
def test_predictions(name, views):
    model, X, _ = fitted(name, views)
    p = model.predict_proba(X)
    assert p.shape == (60, 3)
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    assert (model.predict(X) == model.classes_[p.argmax(axis=1)]).all()
    assert len(model.history_["loss"]) == 4
    assert np.isfinite(model.history_["loss"]).all()
    if name == "fuml":
        assert not hasattr(model, "predict_opinion")
        doubt, conflict = model.predict_uncertainty(X), model.predict_conflict(X)
        assert ((doubt >= 0) & (doubt <= 1)).all()
        assert ((conflict >= -1e-9) & (conflict <= 1)).all()
        return
    opinion = model.predict_opinion(X)
    assert list(opinion.views) == ([] if name == "edl" else list(X))
    assert opinion.shared.shape == (60, 1 if name == "etmc" else 0, 3)
    for evidence_ in (opinion.evidence, *opinion.views.values()):
        assert (evidence_ >= 0).all()
    if views == 1:
        assert (opinion.conflict == 0).all()


@pytest.mark.parametrize("name", KINDS)
def test_seed_alone_decides(name):
    first, second, other = (fitted(name, random_state=seed)[0] for seed in (3, 3, 4))
    X = problem()[0]
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert not np.allclose(first.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize("name", KINDS)
def test_learns(name):
    data = load_dataset("digits")
    views = MultiView({view: data.views[view] for view in ("pixels", "fourier")})
    model = KINDS[name](epochs=40, batch_size=100, device="cpu", random_state=0)
    model.fit(views.take(slice(0, 400)), data.target[:400])
    # FUML's memberships of 0 have no gradient, and it starts slowly
    assert model.score(views.take(slice(400, 800)), data.target[400:800]) > 0.75


def test_fuml_without_any_membership_is_uniform():
    model, X, _ = fitted("fuml")
    with torch.no_grad():
        for one in model.module_.collectors:
            one.layers[-1].weight.zero_()
            one.layers[-1].bias.fill_(-1.0)
    np.testing.assert_allclose(model.predict_proba(X), 1 / 3)
    np.testing.assert_allclose(model.predict_uncertainty(X), 1, atol=1e-6)


def test_fuml_in_blocks(monkeypatch):
    model, X, _ = fitted("fuml")
    whole = model.predict_proba(X)
    monkeypatch.setattr("rcml_misa.estimators.base.BLOCK", 7)
    np.testing.assert_allclose(model.predict_proba(X), whole, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("edl", {"prior_weight": 0.0}),
        ("edl", {"form": "cross"}),
        ("edl", {"kl_weight": -1.0}),
        ("ccml", {"sharpness": 0.0}),
        ("ccml", {"complementary_weight": -0.1}),
        ("fuml", {"norm_order": 0.5}),
        ("fuml", {"layers": 0}),
        ("tmc", {"hidden": (0,)}),
        ("etmc", {"scaling": "max"}),
    ],
)
def test_options_that_do_not_fit(name, option):
    with pytest.raises(OptionError, match=next(iter(option))):
        fitted(name, **option)


# missing views and weights


def with_gaps(X):
    """Every third row lacks a view, in turns."""
    gaps = {name: array.copy() for name, array in X.items()}
    for place, array in enumerate(gaps.values()):
        array[place :: 3 * len(gaps)] = np.nan
    return gaps


@pytest.mark.parametrize("name", KINDS)
def test_missing_views_in_train_and_test_rows(name):
    X, y = problem(3)
    gaps = with_gaps(X)
    model = KINDS[name](epochs=4, batch_size=32, device="cpu", random_state=0).fit(gaps, y)
    p = model.predict_proba(gaps)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    # what stands in for a missing view does not matter to the methods that leave it out
    if name in ("tmc", "ccml"):
        lacking = np.isnan(gaps["view0"]).any(axis=1)
        opinion = model.predict_opinion(gaps)
        assert (opinion.views["view0"][lacking] == 0).all()
        assert (opinion.views["view0"][~lacking] > 0).all()
    alone = {view: array[:1] for view, array in gaps.items()}
    np.testing.assert_allclose(model.predict_proba(alone), p[:1], atol=1e-5)


@pytest.mark.parametrize("sharpness", [1.0, 1.25])
def test_decoupling_without_a_view_is_that_of_the_others(sharpness):
    e = evidence()
    present = torch.ones(ROWS, VIEWS, dtype=torch.bool)
    present[:, 1] = False
    found = decouple_evidence(e, sharpness=sharpness, present=present)
    wanted = decouple_evidence(e[:, [0, 2]], sharpness=sharpness)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_fuzzy_fusion_without_a_view_is_that_of_the_others():
    m = memberships()
    present = torch.ones(ROWS, VIEWS, dtype=torch.bool)
    present[:, 0] = False
    c = credibility(m)
    torch.testing.assert_close(
        fuse_memberships(m, c, present), fuse_memberships(m[:, 1:], c[:, 1:])
    )
    torch.testing.assert_close(
        membership_conflict(m, present)[:, 1:], membership_conflict(m[:, 1:])
    )
    alone = torch.zeros(ROWS, VIEWS, dtype=torch.bool)
    alone[:, 2] = True
    torch.testing.assert_close(fuse_memberships(m, c, alone), m[:, 2])
    assert float(membership_conflict(m, alone).abs().max()) == 0


def test_losses_of_absent_views():
    e, y = evidence(), onehot()
    present = torch.ones(ROWS, VIEWS, dtype=torch.bool)
    present[:, 1] = False
    masked = e * present.unsqueeze(-1)
    fused = fuse(masked, operator="dempster")
    some = ViewOpinions(fused=fused, private=masked, shared=e[:, :0], present=present)
    fewer = ViewOpinions(fused=fused, private=e[:, [0, 2]], shared=e[:, :0])
    one, two = (TMCClassifier()._terms(out, y, 0.4)["loss"] for out in (some, fewer))
    assert float(one) == pytest.approx(float(two))


@pytest.mark.parametrize("name", KINDS)
def test_weights_of_rows_are_used(name):
    X, y = problem()
    weights = np.where(y == "ant", 5.0, 1.0)
    given = {"epochs": 20, "batch_size": 32, "device": "cpu", "random_state": 0}
    plain, weighted = (
        KINDS[name](**given).fit(X, y, sample_weight=some) for some in (None, weights)
    )
    gain = weighted.predict_proba(X)[:, 0].mean() - plain.predict_proba(X)[:, 0].mean()
    assert gain > 0


@pytest.mark.parametrize("name", ["edl", "tmc", "etmc", "ccml"])
def test_saved_models_answer_alike(name, tmp_path):
    model, X, _ = fitted(name)
    model.save(tmp_path / "model")
    again = rcml_misa.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.get_params() == model.get_params()
    frame = model.predict_opinion(X).to_frame()
    assert len(frame) == 60
