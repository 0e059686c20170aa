"""RCML-MISA on sequences and texts; what it does on tables stays what it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rcml_misa
from rcml_misa.estimators import RCMLMISAClassifier
from rcml_misa.nn.encoders import RecurrentEncoder, TableEncoder
from rcml_misa.nn.pretrained import PretrainedText, split_frozen
from rcml_misa.views import MultiView

SMALL = {"text_encoder": "words", "sequence_encoder": "mean", "hidden": 16, "random_state": 0}


def _views(n: int = 150, seed: int = 0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    word = np.array(["bad", "so", "good"])[y]
    views = {
        "words": [f"a {one} film" for one in word],
        "steps": [rng.normal(c, 1.5, (rng.integers(1, 6), 2)) for c in y],
        "table": np.eye(3)[y] + rng.normal(0, 0.8, (n, 3)),
    }
    return MultiView(views), np.array(["no", "so", "yes"])[y]


@pytest.mark.parametrize("readout", ["both", "tokens", "encoders"])
def test_tables_beside_sequences_run_through_the_same_encoders(tmp_path, readout) -> None:
    whole, y = _views(60)
    table = np.array(whole["table"])
    table[::3] = np.nan
    views = MultiView({"steps": whole["steps"], "table": table})
    tiny = {"encoder_width": 8, "hidden": 8, "feedforward": 8, "sequence_hidden": 4}
    model = RCMLMISAClassifier(epochs=2, readout=readout, random_state=0, **tiny).fit(views, y)
    assert model.networks_ == 2
    for network in model.module_.networks:
        encode = network.encode
        assert [type(part) for part in encode.encoders] == [RecurrentEncoder, TableEncoder]
        assert [part.in_features for part in encode.first] == [
            4 * 4,
            model.readers_.encoders()[1].outputs,
        ]
        assert all(float(norm.running_mean.abs().sum()) > 0 for norm in encode.norms)
    opinion = model.predict_opinion(views)
    np.testing.assert_array_equal(opinion.present[:, 1], [row % 3 > 0 for row in range(60)])
    assert (opinion.of("table").uncertainty[::3] == 1).all()
    model.save(tmp_path / "model.rcml")
    again = rcml_misa.load(tmp_path / "model.rcml")
    for name, value in model.module_.state_dict().items():
        assert torch.equal(again.module_.state_dict()[name], value)
    other = again.predict_opinion(views)
    for name in ("evidence", "shared", "conflict", "probability"):
        np.testing.assert_array_equal(getattr(other, name), getattr(opinion, name))
    for name in views.names:
        np.testing.assert_array_equal(other.views[name], opinion.views[name])
    np.testing.assert_array_equal(again.predict_proba(views), model.predict_proba(views))


def test_options_of_sequences_do_not_touch_tables() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 6)), rng.integers(0, 2, 60)
    plain = RCMLMISAClassifier(views=[3, 3], epochs=2, random_state=0).fit(X, y)
    other = RCMLMISAClassifier(
        views=[3, 3],
        epochs=2,
        random_state=0,
        sequence_encoder="gru",
        sequence_hidden=3,
        text_encoder="words",
        text_layers=None,
        precision="float32",
        text_learning_rate=0.5,
    ).fit(X, y)
    assert np.array_equal(plain.predict_opinion(X).evidence, other.predict_opinion(X).evidence)
    assert not hasattr(plain, "readers_")


def test_a_second_fit_forgets_the_readers_of_the_first(tmp_path) -> None:
    views, labels = _views(40)
    tables = MultiView({"a": views["table"], "b": views["table"][:, :2]})
    model = RCMLMISAClassifier(epochs=1, landmarks=10, **SMALL).fit(views, labels)
    model.fit(tables, labels).save(tmp_path / "model.rcml")
    again = rcml_misa.load(tmp_path / "model.rcml")
    assert np.array_equal(again.predict_proba(tables), model.predict_proba(tables))


def test_opinions_of_mixed_views() -> None:
    views, y = _views()
    model = RCMLMISAClassifier(epochs=15, encoder_width=32, **SMALL).fit(views, y)
    new, truth = _views(60, seed=1)
    assert model.score(new, truth) > 0.9
    opinion = model.predict_opinion(new)
    assert opinion.evidence.shape == (60, 3)
    assert set(opinion.views) == {"words", "steps", "table"}
    assert opinion.shared.shape == (60, 1, 3)
    np.testing.assert_allclose(opinion.belief.sum(axis=1) + opinion.uncertainty, 1)
    assert model.experts_ is None
    order = np.random.default_rng(0).permutation(60)
    turned = model.predict_opinion(new.take(order))
    np.testing.assert_allclose(turned.evidence, opinion.evidence[order], rtol=1e-4, atol=1e-5)
    again = RCMLMISAClassifier(epochs=15, encoder_width=32, **SMALL).fit(views, y)
    assert np.array_equal(again.predict_proba(new), model.predict_proba(new))


def test_a_private_opinion_is_about_its_own_view() -> None:
    views, y = _views()
    model = RCMLMISAClassifier(epochs=2, **SMALL).fit(views, y)
    before = model.predict_opinion(views)
    after = model.predict_opinion(views.replace({"words": ["other"] * 150}))
    np.testing.assert_allclose(after.views["steps"], before.views["steps"], atol=1e-5)
    assert not np.allclose(after.views["words"], before.views["words"])


def test_pooled_views_have_experts() -> None:
    views, y = _views()
    pooled = views.pooled(text_columns=32)
    model = RCMLMISAClassifier(epochs=1, random_state=0).fit(pooled, y)
    assert model.experts_ is not None
    assert model.score(pooled, y) > 0.9


@pytest.mark.parametrize("rate", [1e-12, 1e-2])
def test_pretrained_texts_learn_at_their_own_rate(rate) -> None:
    whole, y = _views(20)
    views = MultiView({"table": whole["table"], "words": whole["words"]})
    tiny = {"encoder_width": 8, "hidden": 8, "feedforward": 8, "text_layers": 1}
    model = RCMLMISAClassifier(epochs=1, text_learning_rate=rate, random_state=0, **tiny)
    networks = model.fit(views, y).module_.networks
    fresh = PretrainedText("minilm", trained_layers=1)
    split_frozen(fresh)  # as training does
    before = fresh.state_dict()
    for network in networks:
        trained = network.encode.encoders[1].state_dict()
        moved = max(float((value - before[name]).abs().max()) for name, value in trained.items())
        if rate < 1e-6:
            assert moved < 1e-9
        else:
            assert 1e-3 < moved < 0.1


def test_callback_and_history() -> None:
    views, y = _views(40)
    seen = []
    model = RCMLMISAClassifier(epochs=2, **SMALL).fit(views, y, callback=seen.append)
    assert [one.epoch for one in seen] == [1, 2]
    assert len(model.history_["edl"]) == 2
