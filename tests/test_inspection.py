"""Codes, attention maps and loss terms on request; the default path is left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from rcml_misa.estimators import RCMLMISAClassifier
from rcml_misa.estimators.evidential_regression import RCMLMISARegressor
from rcml_misa.estimators.misa import MISAClassifier, MISARegressor
from rcml_misa.nn.encoders import TableEncoder
from rcml_misa.nn.networks import RCMLMISANet
from rcml_misa.nn.tokens import TokenFusion, private_mask
from rcml_misa.views import MultiView

RNG = np.random.default_rng(0)
TABLES = MultiView({"a": RNG.normal(size=(60, 4)), "b": RNG.normal(size=(60, 3))})
MIXED = MultiView({"a": RNG.normal(size=(60, 4)), "steps": RNG.normal(size=(60, 5, 2))})
CODES = (TABLES["a"][:, 0] > 0).astype(int)


def plain_attention(layer, tokens, mask):
    """Softmax of scaled products, head by head, token by token."""
    count, batch, hidden = tokens.shape
    normed = layer.before_attention(tokens)
    both = normed @ layer.queries_keys_values.weight.T + layer.queries_keys_values.bias
    queries, keys, _ = both.split(hidden, dim=2)
    size = hidden // layer.heads
    found = torch.zeros(batch, layer.heads, count, count, dtype=tokens.dtype)
    for row in range(batch):
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(count):
                scores = torch.stack(
                    [
                        queries[i, row, part] @ keys[j, row, part] / size**0.5
                        if mask[i, j]
                        else torch.tensor(-torch.inf, dtype=tokens.dtype)
                        for j in range(count)
                    ]
                )
                found[row, head, i] = scores.softmax(dim=0)
    return found


@pytest.mark.parametrize("masked", [True, False])
def test_maps_are_those_of_a_plain_loop(masked) -> None:
    torch.manual_seed(0)
    fusion = TokenFusion(
        views=2, hidden=8, layers=2, mask="private" if masked else "none", dropout=0.0
    ).double()
    tokens = torch.randn(4, 3, 8, dtype=torch.float64)
    maps = fusion.maps(tokens)
    assert maps.shape == (3, 2, 2, 4, 4)
    first = private_mask(2) if masked else torch.ones(4, 4, dtype=torch.bool)
    second = first.clone()
    second[:2, 2:] &= not masked
    torch.testing.assert_close(maps[:, 0], plain_attention(fusion.layers[0], tokens, first))
    between = fusion.layers[0](tokens, first if masked else None)
    torch.testing.assert_close(maps[:, 1], plain_attention(fusion.layers[1], between, second))
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(3, 2, 2, 4, dtype=torch.float64))
    assert not any(isinstance(value, torch.Tensor) for value in vars(fusion).values())


def test_asking_for_attention_changes_nothing_else() -> None:
    torch.manual_seed(0)
    encoders = [TableEncoder(3), TableEncoder(2)]
    net = RCMLMISANet(encoders, classes=4, hidden=8, encoder_width=8).eval()
    views = [torch.randn(5, 3), torch.randn(5, 2)]
    silent, asked = net(views), net(views, attention=True)
    assert silent.attention is None
    assert asked.attention.shape == (5, 1, 2, 4, 4)
    for name in ("fused", "private", "shared", "logits", "tokens", "private_codes"):
        assert torch.equal(getattr(silent, name), getattr(asked, name))


MODELS = [
    (RCMLMISAClassifier(epochs=1, landmarks=20, hidden=16), TABLES, CODES),
    (RCMLMISAClassifier(epochs=1, hidden=16), MIXED, CODES),
    (MISAClassifier(epochs=1, hidden=16), MIXED, CODES),
    (MISARegressor(epochs=1, hidden=16), MIXED, CODES - 0.5),
    (RCMLMISARegressor(epochs=1, hidden=16), MIXED, CODES - 0.5),
]


@pytest.mark.parametrize(("model", "views", "target"), MODELS, ids=lambda one: type(one).__name__)
def test_estimators_show_codes_attention_and_losses(model, views, target) -> None:
    model.set_params(random_state=0).fit(views, target)
    found = model.extract_features(views)
    assert found.private.shape == found.shared.shape == (60, 2, 16)
    assert found.fused.shape == (60, 64)
    # rows stand in their own order whatever blocks they were run in
    few = model.extract_features(views.take([7, 3]))
    np.testing.assert_allclose(few.private, found.private[[7, 3]], atol=1e-5)
    attention = model.mean_attention(views)
    assert attention.shape == (1, 4, 4)
    np.testing.assert_allclose(attention.sum(axis=2), 1, atol=1e-6)
    parts = [model.mean_attention(views.take(rows)) for rows in (slice(0, 20), slice(20, 60))]
    np.testing.assert_allclose(attention, parts[0] / 3 + 2 * parts[1] / 3, atol=1e-6)
    terms = model.loss_terms(views, target)
    assert {"loss", "sim", "diff", "recon"} <= set(terms)
    assert all(np.isfinite(value) for value in terms.values())


def test_private_tokens_of_rcml_misa_see_their_own_view_only() -> None:
    model = RCMLMISAClassifier(epochs=1, landmarks=20, random_state=0).fit(TABLES, CODES)
    (attention,) = model.mean_attention(TABLES)
    assert_array_equal(attention > 0, private_mask(2).numpy())


def test_loss_terms_are_means_over_blocks_of_a_batchs_size() -> None:
    model = MISARegressor(epochs=1, hidden=16, batch_size=20, random_state=0)
    model.fit(TABLES, CODES - 0.5)
    whole = model.loss_terms(TABLES, CODES - 0.5)
    parts = [
        model.loss_terms(TABLES.take(rows), (CODES - 0.5)[rows])
        for rows in (slice(0, 20), slice(20, 40), slice(40, 60))
    ]
    for name, value in whole.items():
        assert value == pytest.approx(np.mean([part[name] for part in parts]), rel=1e-5)
