"""BML against its formulas, written out in plain loops, and as an estimator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from rcml_misa.datasets import load_dataset
from rcml_misa.estimators import BMLClassifier
from rcml_misa.estimators.base import TrainRows
from rcml_misa.exceptions import OptionError
from rcml_misa.nn.reliability import (
    ReliabilityNet,
    ReliabilityOutput,
    mean_divergence,
    scaled_entropy,
)
from rcml_misa.views import MultiView

ROWS, VIEWS, CLASSES = 6, 3, 4
calm = settings(deadline=None, max_examples=30, derandomize=True)
QUICK = {"epochs": 4, "encoder_width": 16, "device": "cpu", "random_state": 0}


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, shape))


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return float(stats.entropy(p, q) + stats.entropy(q, p))


@calm
@given(seed=st.integers(0, 99), classes=st.integers(2, 9))
def test_scaled_entropy_by_its_formula(seed, classes):
    logits = numbers(seed, ROWS, classes)
    p = special.softmax(logits.numpy(), axis=1)
    wanted = -np.log(1 - stats.entropy(p, axis=1) / math.log(classes))
    np.testing.assert_allclose(scaled_entropy(logits), wanted, rtol=1e-9)


def test_scaled_entropy_is_finite_at_its_limits():
    logits = torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]], requires_grad=True)
    values = scaled_entropy(logits)
    np.testing.assert_allclose(values.detach(), [0, -math.log(1e-8)], atol=1e-6, rtol=1e-4)
    values.sum().backward()
    assert logits.grad.isfinite().all()


@calm
@given(seed=st.integers(0, 99), views=st.integers(1, 4), gaps=st.booleans())
def test_mean_divergence_by_its_formula(seed, views, gaps):
    logits = numbers(seed, ROWS, views, CLASSES)
    present = np.random.default_rng(seed).random((ROWS, views)) < (0.6 if gaps else 2)
    p = special.softmax(logits.numpy(), axis=-1)
    found = mean_divergence(logits, torch.from_numpy(present) if gaps else None)
    for row in range(ROWS):
        for view in np.flatnonzero(present[row]):
            others = [other for other in np.flatnonzero(present[row]) if other != view]
            each = [divergence(p[row, view], p[row, other]) for other in others]
            assert float(found[row, view]) == pytest.approx(np.mean(each) if each else 0, rel=1e-6)


def network(views: int = VIEWS, **options) -> tuple[ReliabilityNet, list[torch.Tensor]]:
    torch.manual_seed(0)
    given = {"width": 7, "depth": 3, "dropout": 0.5, "classes": CLASSES} | options
    widths = range(2, 2 + views)
    made = ReliabilityNet(widths, **given).double()
    return made, [numbers(width, ROWS, width) for width in widths]


def linear(layer, values: np.ndarray, view: int) -> np.ndarray:
    return values @ layer.weight[view].numpy() + layer.bias[view, 0].numpy()


@torch.no_grad()
def test_network_layer_by_layer():
    made, views = network()
    for norm in made.encode.norms:
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    found = made.eval()(views)
    features, logits = [], []
    for view, values in enumerate(views):
        inner = values.numpy() @ made.encode.first[view].weight.numpy().T
        for depth, norm in enumerate(made.encode.norms):
            if depth:
                inner = linear(made.encode.deeper[depth - 1], inner, view)
            mean, var, gain, shift = (
                part.view(VIEWS, 7)[view].numpy()
                for part in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            )
            inner = np.maximum((inner - mean) / np.sqrt(var + 1e-5) * gain + shift, 0)
        features.append(linear(made.features, inner, view))
        logits.append(linear(made.classify, features[-1], view))
    p = special.softmax(np.array(logits), axis=-1)
    fused = np.zeros((ROWS, CLASSES))
    for view in range(VIEWS):
        doubt = -np.log(1 - stats.entropy(p[view], axis=1) / math.log(CLASSES))
        others = [other for other in range(VIEWS) if other != view]
        apart = [
            np.mean([divergence(p[view, row], p[other, row]) for other in others])
            for row in range(ROWS)
        ]
        judged = np.column_stack([features[view], doubt, apart])
        judge = np.maximum(linear(made.judge[0], judged, view), 0)
        reliability = special.expit(linear(made.judge[2], judge, view)[:, 0])
        np.testing.assert_allclose(found.reliability[:, view], reliability, rtol=1e-6)
        fused += reliability[:, None] * logits[view]
    np.testing.assert_allclose(found.logits, np.swapaxes(logits, 0, 1), rtol=1e-6)
    np.testing.assert_allclose(found.fused, fused, rtol=1e-6)


def test_sizes_are_the_published_ones():
    model = BMLClassifier()
    model.widths_, model.classes_ = (5, 9), np.arange(3)
    made = model._build()
    for columns, first in zip((5, 9), made.encode.first, strict=True):
        assert first.weight.shape == (1024, columns)
    layers = [*made.encode.deeper, made.features, made.classify, made.judge[0], made.judge[2]]
    sizes = [tuple(layer.weight.shape) for layer in layers]
    pairs = [(1024, 1024), (1024, 1024), (1024, 128), (128, 3), (130, 256), (256, 1)]
    assert sizes == [(2, *pair) for pair in pairs]
    assert (made.encode.dropout, len(made.encode.norms)) == (0.5, 3)


@torch.no_grad()
def test_a_view_left_out_is_as_none():
    made, views = network()
    made.eval()
    present = torch.ones(ROWS, VIEWS, dtype=torch.bool)
    present[:, 1] = False
    some = made([views[0], 99 * views[1], views[2]], present)
    again = made([views[0], views[1], views[2]], present)
    torch.testing.assert_close(some.fused, again.fused)
    assert (some.reliability[:, 1] == 0).all()
    assert not torch.allclose(some.fused, made(views).fused)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_loss_by_its_formula(weight, gaps):
    rng = np.random.default_rng(1)
    logits, fused = numbers(0, ROWS, VIEWS, CLASSES), numbers(1, ROWS, CLASSES)
    r = rng.uniform(0.05, 0.95, (ROWS, VIEWS))
    present = rng.random((ROWS, VIEWS)) < 0.7 if gaps else np.ones((ROWS, VIEWS), dtype=bool)
    classes = rng.integers(CLASSES, size=(ROWS, 1 + VIEWS))
    classes[0] = classes[0, 0]  # every view is of the row's class
    own, of_views = classes[:, 0], classes[:, 1:]
    cross = -np.mean(special.log_softmax(fused.numpy(), axis=1)[np.arange(ROWS), own])
    belongs = of_views == own[:, None]
    each = -np.log(np.where(belongs, r, 1 - r))
    output = ReliabilityOutput(
        logits,
        torch.from_numpy(r * present),
        fused,
        torch.from_numpy(present) if gaps else None,
    )
    target = torch.from_numpy(np.eye(CLASSES)[classes])
    terms = BMLClassifier(reliability_weight=weight)._terms(output, target, 0.0)
    assert float(terms["cross_entropy"]) == pytest.approx(cross)
    assert float(terms["reliability"]) == pytest.approx(each[present].mean())
    assert float(terms["loss"]) == pytest.approx(cross + weight * each[present].mean())


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 81)])
def test_rows_of_an_epoch_exchange_views(weights):
    views = MultiView([np.arange(80.0)[:, None] + np.zeros(width) for width in (1, 2, 3)])
    rows = TrainRows(views, np.arange(80) % 4, weights)
    model = BMLClassifier(batch_size=30)
    rng = np.random.default_rng(0)
    epochs = [model._batches(rows, rng) for _ in range(2)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [27, 27, 26]
        every = np.concatenate(batches)
        moved = every[:, 1:] != every[:, :1]
        assert moved.sum(axis=1).max() == 1  # two of three views stay
        if weights is None:
            assert sorted(every[:, 0]) == list(range(80))
            assert 30 <= moved.any(axis=1).sum() <= 40
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))
    calm_epoch = np.concatenate(BMLClassifier(shuffle_rate=0.0)._batches(rows, rng))
    assert (calm_epoch[:, 1:] == calm_epoch[:, :1]).all()


def test_training_sees_each_view_of_its_source(monkeypatch):
    """Rows whose views tell their numbers, and one-hot classes of the rows they come from."""
    X, y = {"a": np.arange(40.0)[:, None], "b": np.arange(40.0)[::-1, None]}, np.arange(40) % 4
    seen = []

    def terms(self, output, target, kl_weight):
        seen.append((inputs[-1], target))
        return original(self, output, target, kl_weight)

    def run(self, views, present):
        inputs.append([view[:, 0] for view in views])
        return self.module_(views) if present is None else self.module_(views, present)

    inputs, original = [], BMLClassifier._terms
    monkeypatch.setattr(BMLClassifier, "_terms", terms)
    monkeypatch.setattr(BMLClassifier, "_run", run)
    BMLClassifier(**QUICK | {"scaling": "none", "shuffle_rate": 1.0}).fit(X, y)
    for (first, second), target in seen:
        sources = np.column_stack([first, 39 - second]).astype(int)
        assert (target[:, 1:].argmax(dim=2).numpy() == y[sources]).all()
        own = target[:, 0].argmax(dim=1).numpy()
        assert (y[sources] == own[:, None]).any(axis=1).all()  # one of two views stays
        assert 10 < (y[sources] != own[:, None]).any(axis=1).sum() <= 40


def problem(views: int = 2, rows: int = 60):
    rng = np.random.default_rng(5)
    y = np.arange(rows) % 3
    X = {f"view{place}": rng.normal(size=(rows, 4)) + 2 * y[:, None] for place in range(views)}
    return X, np.array(["ant", "bee", "cat"])[y]


@pytest.mark.parametrize("views", [1, 3])
def test_predictions(views):
    X, y = problem(views)
    model = BMLClassifier(**QUICK).fit(X, y)
    p, reliability = model.predict_proba(X), model.predict_reliability(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
    assert (model.predict(X) == model.classes_[p.argmax(axis=1)]).all()
    np.testing.assert_allclose(model.predict_uncertainty(X), 1 - p.max(axis=1))
    assert reliability.shape == (60, views)
    assert ((reliability > 0) & (reliability < 1)).all()
    assert [*model.history_] == ["loss", "cross_entropy", "reliability"]
    assert all(len(values) == 4 for values in model.history_.values())
    again = BMLClassifier(**QUICK).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), p)
    other = BMLClassifier(**QUICK | {"random_state": 1}).fit(X, y)
    assert not np.allclose(other.predict_proba(X), p)


def test_predictions_in_blocks(monkeypatch):
    X, y = problem()
    model = BMLClassifier(**QUICK).fit(X, y)
    whole, reliability = model.predict_proba(X), model.predict_reliability(X)
    monkeypatch.setattr("rcml_misa.estimators.base.BLOCK", 7)
    np.testing.assert_allclose(model.predict_proba(X), whole, rtol=1e-5)
    np.testing.assert_allclose(model.predict_reliability(X), reliability, rtol=1e-5)


def test_learns_and_trusts_views_that_belong():
    data = load_dataset("digits")
    views = MultiView({view: data.views[view] for view in ("pixels", "fourier")})
    train, test = views.take(slice(0, 600)), views.take(slice(600, 1200))
    quick = {"epochs": 40, "batch_size": 100, "encoder_width": 64, "encoder_dropout": 0.2}
    model = BMLClassifier(**quick, device="cpu", random_state=0).fit(train, data.target[:600])
    assert model.score(test, data.target[600:1200]) > 0.85
    strange = test.replace({"fourier": test["fourier"][::-1]})
    other = data.target[600:1200] != data.target[600:1200][::-1]
    own, lent = (model.predict_reliability(rows)[other, 1] for rows in (test, strange))
    assert own.mean() > lent.mean() + 0.2
    assert model.score(strange, data.target[600:1200]) > 0.5


def test_missing_views_in_train_and_test_rows():
    X, y = problem(3)
    gaps = {name: array.copy() for name, array in X.items()}
    for place, array in enumerate(gaps.values()):
        array[place::9] = np.nan
    model = BMLClassifier(**QUICK).fit(gaps, y)
    p, reliability = model.predict_proba(gaps), model.predict_reliability(gaps)
    assert np.isfinite(p).all()
    np.testing.assert_array_equal(reliability > 0, MultiView(gaps).present)
    alone = {view: array[:1] for view, array in gaps.items()}
    np.testing.assert_allclose(model.predict_proba(alone), p[:1], atol=1e-5)


def test_weights_of_rows_are_used():
    X, y = problem()
    weights = np.where(y == "ant", 5.0, 1.0)
    plain, weighted = (
        BMLClassifier(**QUICK).fit(X, y, sample_weight=some) for some in (None, weights)
    )
    gain = weighted.predict_proba(X)[:, 0].mean() - plain.predict_proba(X)[:, 0].mean()
    assert gain > 0


@pytest.mark.parametrize(
    "option",
    [
        {"shuffle_rate": 1.5},
        {"reliability_weight": -1.0},
        {"encoder_width": 0},
        {"encoder_dropout": 1.0},
    ],
)
def test_options_that_do_not_fit(option):
    with pytest.raises(OptionError, match=next(iter(option))):
        BMLClassifier(**option).fit(*problem())
