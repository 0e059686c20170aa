"""MISA: a plain-loop oracle, the adversarial branch, planted subspaces, selection, bad input."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import Ridge
from torch.nn import functional as F  # noqa: N812

from rcml_misa.estimators import MISAClassifier, MISARegressor
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.losses import shared_private_loss, view_confusion_loss
from rcml_misa.nn.encoders import TableEncoder
from rcml_misa.nn.misa import MISANet, MISAVariant, reverse_gradient
from rcml_misa.views import MultiView, Sequences

VARIANTS = get_args(MISAVariant)


def _net(variant="full", **options) -> MISANet:
    torch.manual_seed(0)
    encoders = [TableEncoder(3), TableEncoder(5)]
    return MISANet(
        encoders, outputs=2, hidden=4, feedforward=6, variant=variant, **options
    ).double()


def _loop(net: MISANet, views: list[torch.Tensor], skip: bool) -> torch.Tensor:
    """MISA's forward pass in evaluation mode, one row and one view at a time, from its formulas."""
    outputs = []
    for row in range(len(views[0])):
        projected, private, shared = [], [], []
        for v, view in enumerate(views):
            linear = net.project.project.linears[v]
            u = (linear.weight @ view[row] + linear.bias).clamp_min(0)
            u = (u - u.mean()) / (u.var(correction=0) + 1e-5).sqrt()
            u = u * net.project.project.gain[v, 0] + net.project.project.shift[v, 0]
            projected.append(u)
            if net.subspaces is not None:
                w, b = net.subspaces.private.weight[v], net.subspaces.private.bias[v, 0]
                private.append(1 / (1 + torch.exp(-(u @ w + b))))
                s = net.subspaces.shared
                shared.append(1 / (1 + torch.exp(-(s.weight @ u + s.bias))))
        tokens = {
            "base": projected,
            "inv": shared,
            "sFusion": private,
            "iFusion": shared,
            "full": private + shared,
        }[net.variant]
        x = torch.stack(tokens)
        layer = net.fuse
        q, k, value = (x @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).chunk(
            3, dim=1
        )
        heads = []
        for h in range(2):
            part = slice(2 * h, 2 * h + 2)
            scores = torch.softmax(q[:, part] @ k[:, part].T / 2**0.5, dim=1)
            heads.append(scores @ value[:, part])
        x = layer.norm1(x + layer.self_attn.out_proj(torch.cat(heads, dim=1)))
        x = layer.norm2(x + layer.linear2(layer.linear1(x).clamp_min(0)))
        hidden = (net.head[0].weight @ x.flatten() + net.head[0].bias).clamp_min(0)
        out = net.head[3].weight @ hidden + net.head[3].bias
        if skip:
            out = out + net.skip.weight @ torch.cat(projected) + net.skip.bias
        outputs.append(out)
    return torch.stack(outputs)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_is_the_papers(variant, skip) -> None:
    net = _net(variant, skip=skip).eval()
    if skip:  # or the fused part would be zero times anything
        torch.nn.init.normal_(net.head[3].weight)
    views = [torch.randn(4, 3, dtype=torch.double), torch.randn(4, 5, dtype=torch.double)]
    found = net(views)
    torch.testing.assert_close(found.prediction, _loop(net, views, skip))
    if net.subspaces is not None:
        total = found.private_codes + found.shared_codes
        for v in range(2):
            decoder = net.subspaces.decoder
            rebuilt = total[:, v] @ decoder.weight[v] + decoder.bias[v, 0]
            torch.testing.assert_close(found.reconstructed[:, v], rebuilt)


def test_skip_starts_at_the_views_themselves() -> None:
    net = _net(skip=True).eval()
    found = net([torch.randn(4, 3).double(), torch.randn(4, 5).double()])
    torch.testing.assert_close(found.prediction, net.skip(found.projected.flatten(1)))


def test_reversed_gradient_has_the_other_sign() -> None:
    """The discriminator learns to tell the views, the encoders to hide them."""
    plain, turned = _net(adversarial=True, dropout=0.0), _net(adversarial=True, dropout=0.0)
    plain.reversal_weight, turned.reversal_weight = -1.0, 0.5  # minus one: not reversed at all
    views = [torch.randn(8, 3).double(), torch.randn(8, 5).double()]
    for net in (plain, turned):
        view_confusion_loss(net(views).view_logits).backward()
    for name in ("weight", "bias"):
        torch.testing.assert_close(
            getattr(turned.discriminate[0], name).grad, getattr(plain.discriminate[0], name).grad
        )
        encoder = getattr(turned.subspaces.shared, name).grad
        torch.testing.assert_close(encoder, -0.5 * getattr(plain.subspaces.shared, name).grad)
        assert encoder.abs().sum() > 0
    x = torch.ones(1, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: -reverse_gradient(t, -1.0) * 0 + t, (x,))


def test_adversarial_losses_are_cross_entropies() -> None:
    logits = torch.randn(5, 3, 3, dtype=torch.double)
    loop = [F.cross_entropy(logits[:, v], torch.full((5,), v)) for v in range(3)]
    torch.testing.assert_close(view_confusion_loss(logits), torch.stack(loop).mean())
    kinds = torch.randn(5, 4, 3, dtype=torch.double)
    private = [F.cross_entropy(kinds[:, v], torch.full((5,), v)) for v in range(2)]
    shared = [F.cross_entropy(kinds[:, 2 + v], torch.full((5,), 2)) for v in range(2)]
    expected = (sum(private) + sum(shared) / 2) / 3
    torch.testing.assert_close(shared_private_loss(kinds), expected)


def test_views_are_dropped_whole_and_never_all() -> None:
    net = _net(view_dropout=0.5).train()
    torch.nn.init.ones_(net.project.project.shift)
    torch.nn.init.zeros_(net.project.project.gain)
    found = net([torch.randn(400, 3).double(), torch.randn(400, 5).double()])
    assert set(found.projected.unique().tolist()) == {0.0, 1.0}
    kept = found.projected[:, :, 0]
    torch.testing.assert_close(found.projected, kept.unsqueeze(2).expand(-1, -1, 4))
    assert kept.any(dim=1).all()
    assert 250 < int((kept == 0).sum()) < 350  # three rows in four have a draw below a half
    net.eval()
    assert net([torch.randn(4, 3).double(), torch.randn(4, 5).double()]).projected.all()


def _planted(n, seed=0):
    """Three sequence views: one factor in all of them, and one factor of each view's own."""
    rng = np.random.default_rng(seed)
    shared, own = rng.normal(size=n), rng.normal(size=(n, 3))
    views = {}
    for v in range(3):
        lengths = rng.integers(3, 7, n)
        mix = 1.5 * np.linalg.qr(rng.normal(size=(6, 2)))[0].T
        signal = np.stack([shared, own[:, v]], axis=1) @ mix
        steps = signal[:, None] + rng.normal(0, 0.5, (n, 6, 6))
        views[f"v{v}"] = Sequences(steps, lengths)
    target = 2 * shared + 2 * own[:, 0]  # the others' own factors serve no task
    return MultiView(views), target, shared, own


def _regressor(**options) -> MISARegressor:
    return MISARegressor(
        sequence_encoder="mean",
        hidden=64,
        feedforward=32,
        batch_size=20,
        learning_rate=2e-3,
        skip=False,
        patience=None,
        random_state=0,
        **{"recon_weight": 10.0, "epochs": 15, **options},
    )


def _probe(codes, factor, train, test) -> float:
    return float(Ridge(1e-2).fit(codes[train], factor[train]).score(codes[test], factor[test]))


def test_subspaces_recover_planted_factors_and_a_view_less_hurts() -> None:
    views, target, shared, own = _planted(450)
    train, test = np.arange(300), np.arange(300, 450)
    model = _regressor().fit(views.take(train), target[train])
    found = model.extract_features(views)
    for v in range(3):
        assert _probe(found.shared[:, v], shared, train, test) > 0.7
        assert _probe(found.private[:, v], own[:, v], train, test) > 0.7
    full = model.score(views.take(test), target[test])
    assert full > 0.85
    two = MultiView({name: views[name] for name in ("v1", "v2")})
    minus = clone(model).fit(two.take(train), target[train])
    assert minus.score(two.take(test), target[test]) < full - 0.3


def test_without_its_two_terms_shared_codes_keep_what_is_private() -> None:
    views, target, _, own = _planted(600)
    train, test = np.arange(400), np.arange(400, 600)
    kept = []
    for weight in (0.0, 1.0):
        model = _regressor(sim_weight=3 * weight, diff_weight=weight, epochs=20)
        codes = model.fit(views.take(train), target[train]).extract_features(views).shared
        kept.append(np.mean([_probe(codes[:, v], own[:, v], train, test) for v in (1, 2)]))
    assert kept[1] < kept[0] - 0.15


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns(variant) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 150)
    X = {"a": np.eye(3)[y] + rng.normal(0, 0.3, (150, 3)), "b": rng.normal(size=(150, 4, 2))}
    model = MISAClassifier(variant=variant, hidden=16, feedforward=16, epochs=8, random_state=0)
    model.fit(X, np.array(["x", "y", "z"])[y])
    assert model.score(X, np.array(["x", "y", "z"])[y]) > 0.8
    assert model.predict_proba(X).sum(axis=1) == pytest.approx(1)
    terms = {"base": set(), "inv": {"sim"}}.get(variant, {"sim", "diff", "recon"})
    terms |= {"loss", "task", "own"}
    assert {name for name in model.history_ if "valid" not in name} == terms
    again = clone(model).fit(X, np.array(["x", "y", "z"])[y])
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_adversarial_options_train() -> None:
    rng = np.random.default_rng(0)
    X = {"a": rng.normal(size=(60, 3)), "b": rng.normal(size=(60, 3))}
    model = MISARegressor(
        similarity="adversarial", shared_private_weight=0.1, epochs=2, hidden=8, update_epochs=2
    ).fit(X, X["a"][:, 0])
    assert {"sim", "kinds", "valid kinds"} <= set(model.history_)


def test_words_without_the_extra() -> None:
    texts = ["good film", "bad film", "a good one", "what a bad one"] * 20
    y = np.array([1.0, -1.0, 1.0, -1.0] * 20)
    model = MISARegressor(
        text_encoder="words", sequence_encoder="mean", epochs=30, hidden=16, random_state=0
    ).fit({"t": texts}, y)
    found = model.predict({"t": ["good", "bad", ""]})
    assert found[0] > 0.5
    assert found[1] < -0.5
    assert np.isfinite(found[2])


def test_frozen_text_equals_its_vectors() -> None:
    texts = [f"{word} film" for word in ("good", "bad", "fine", "awful", "great", "poor")] * 4
    y = np.array([1.0, -1, 0.5, -2, 2, -1] * 4)
    frozen = MISARegressor(text_layers=0, epochs=2, hidden=8, random_state=0).fit({"t": texts}, y)
    before = frozen.predict({"t": texts})
    assert before.shape == (24,)
    assert not any("model" in name for name, _ in frozen.module_.named_parameters())
    trained = MISARegressor(text_layers=1, epochs=1, hidden=8, random_state=0)
    trained.fit({"t": texts}, y, validation=({"t": texts[:4]}, y[:4]))
    names = {n for n, p in trained.module_.named_parameters() if p.requires_grad and "model" in n}
    assert names


def test_order_and_block_of_rows_do_not_count() -> None:
    rng = np.random.default_rng(0)
    steps = [rng.normal(size=(rng.integers(1, 9), 2)) for _ in range(40)]
    model = MISARegressor(epochs=1, hidden=8).fit({"s": steps}, rng.normal(size=40))
    whole = model.predict({"s": steps})
    order = rng.permutation(40)
    np.testing.assert_allclose(
        model.predict({"s": [steps[i] for i in order]}), whole[order], atol=1e-6
    )
    one = [model.predict({"s": [step]})[0] for step in steps[:5]]
    np.testing.assert_allclose(one, whole[:5], atol=1e-6)


def test_without_validation_rows_patience_ends_nothing() -> None:
    rng = np.random.default_rng(0)
    X = {"a": rng.normal(size=(20, 3)), "b": rng.normal(size=(20, 2))}
    model = MISARegressor(epochs=4, patience=1, early_stopping=False, hidden=8, random_state=0)
    assert len(model.fit(X, X["a"][:, 0]).history_["loss"]) == 4


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda X, y: MISARegressor().fit(X, None), DataError, "y is missing"),
        (lambda X, y: MISARegressor().fit(X, y[:3]), DataError, "3 numbers but X has 20 rows"),
        (lambda X, y: MISARegressor().fit(X, [np.nan] * 20), DataError, "NaN or infinity"),
        (lambda X, y: MISARegressor().fit(X, ["a"] * 20), DataError, "must be numbers"),
        (lambda X, y: MISARegressor(variant="invv").fit(X, y), OptionError, "did you mean inv"),
        (lambda X, y: MISARegressor(heads=3).fit(X, y), OptionError, "multiple of heads"),
        (lambda X, y: MISARegressor(patience=-1).fit(X, y), OptionError, "patience=-1"),
        (lambda X, y: MISARegressor(averaging=1.0).fit(X, y), OptionError, "averaging=1.0"),
        (
            lambda X, y: MISAClassifier(task_loss="mae").fit(X, y > 0),
            OptionError,
            "belongs to MISARegressor",
        ),
        (
            lambda X, y: MISAClassifier().fit(X, y > 0, validation=(X, ["no"] * 20)),
            DataError,
            "validation has the class 'no'",
        ),
        (
            lambda X, y: MISARegressor().fit(X, y, validation=(X, y[:2])),
            DataError,
            "20 rows but 2 targets",
        ),
        (
            lambda X, y: MISARegressor(learning_rate=1e30, clip=0.0, epochs=3).fit(X, y),
            OptionError,
            "lower it",
        ),
    ],
)
def test_bad_input_is_one_sentence(call, kind, words) -> None:
    rng = np.random.default_rng(0)
    X, y = {"a": rng.normal(size=(20, 3))}, rng.normal(size=20)
    with pytest.raises(kind, match=words) as caught:
        call(X, y)
    assert str(caught.value).count("\n") == 0
