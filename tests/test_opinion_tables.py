"""Opinions of a fitted classifier: parts, pairs, tables."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcml_misa.estimators import ArrayOpinion, MultiViewOpinion
from rcml_misa.exceptions import OptionError
from rcml_misa.opinions import Opinion, pairwise_conflict


def make(rows=5, names=("a", "b", "c"), classes=3, seed=0, **more):
    rng = np.random.default_rng(seed)
    views = {name: rng.exponential(3.0, size=(rows, classes)) for name in names}
    shared = rng.exponential(size=(rows, 2, classes))
    return MultiViewOpinion(
        rng.exponential(5.0, size=(rows, classes)), views, shared, rng.random(rows), **more
    )


@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_numbers_are_those_of_the_pure_functions(views, classes, seed):
    found = make(names=[f"v{i}" for i in range(views)], classes=classes, seed=seed)
    stacked = torch.from_numpy(np.stack(list(found.views.values()), axis=1))
    wanted = pairwise_conflict(stacked).numpy()
    np.testing.assert_allclose(found.pairwise_conflict, wanted, atol=1e-12)
    other = Opinion(torch.from_numpy(found.evidence))
    np.testing.assert_allclose(found.belief, other.belief)
    np.testing.assert_allclose(found.uncertainty, other.uncertainty)
    np.testing.assert_allclose(found.projected_probability, other.projected_probability)
    names = list(found.views)
    for row, told in enumerate(found.most_conflicting):
        if views < 2:
            assert told == ""
            continue
        first, second = told.split("|")
        pair = wanted[row, names.index(first), names.index(second)]
        assert pair == pytest.approx(wanted[row].max())
        assert names.index(first) < names.index(second)


def test_parts():
    found = make()
    assert isinstance(found.of("b"), ArrayOpinion)
    np.testing.assert_array_equal(found.of("b").evidence, found.views["b"])
    tokens = found.tokens
    assert {name: one.evidence.shape for name, one in tokens.items()} == {
        "private": (5, 3, 3),
        "shared": (5, 2, 3),
    }
    assert tokens["private"].uncertainty.shape == (5, 3)
    np.testing.assert_array_equal(tokens["private"].belief[:, 1], found.of("b").belief)
    with pytest.raises(OptionError, match="no view 'd'"):
        found.of("d")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.evidence = found.evidence


def test_labels_and_probabilities():
    plain = make()
    assert plain.predicted.tolist() == plain.evidence.argmax(axis=1).tolist()
    np.testing.assert_array_equal(plain.probability, plain.projected_probability)
    calibrated = np.random.default_rng(1).dirichlet(np.ones(3), size=5)
    assert (calibrated.argmax(axis=1) != plain.predicted).any()
    named = make(classes=3, calibrated=calibrated)
    assert named.probability is calibrated
    labels = np.array(["x", "y", "z"])
    named = dataclasses.replace(named, classes=labels)
    assert named.predicted.tolist() == labels[calibrated.argmax(axis=1)].tolist()


def test_table():
    present = np.array([[True, False, True]] * 2 + [[True] * 3] * 3)
    found = make(classes=2, present=present)
    found.views["b"][:2] = 0
    found = dataclasses.replace(found, classes=np.array([10, 20]))
    frame = found.to_frame()
    assert frame.columns.tolist() == [
        "class", "probability", "uncertainty", "conflict", "conflicting_views",
        "a__class", "a__belief", "a__uncertainty", "b__class", "b__belief", "b__uncertainty",
        "c__class", "c__belief", "c__uncertainty",
    ]  # fmt: skip
    assert frame["class"].isin([10, 20]).all()
    np.testing.assert_allclose(frame["probability"], found.probability.max(axis=1))
    np.testing.assert_allclose(frame["a__belief"], found.of("a").belief.max(axis=1))
    assert frame["b__class"].isna().tolist() == [True, True, False, False, False]
    assert frame["b__belief"].isna().tolist() == [True, True, False, False, False]
    assert frame["b__uncertainty"].tolist()[:2] == [1.0, 1.0]
    assert frame["conflicting_views"].tolist()[:2] == ["a|c", "a|c"]
    assert found.to_frame(per_view=False).shape == (5, 5)


def test_parts_of_rows_are_joined():
    whole = make(rows=6, calibrated=np.random.default_rng(1).random((6, 3)),
                 present=np.ones((6, 3), dtype=bool), classes=3)  # fmt: skip
    whole = dataclasses.replace(whole, classes=np.array(["x", "y", "z"]))
    parts = [
        dataclasses.replace(
            whole,
            evidence=whole.evidence[rows],
            views={name: one[rows] for name, one in whole.views.items()},
            shared=whole.shared[rows],
            conflict=whole.conflict[rows],
            present=whole.present[rows],
            calibrated=whole.calibrated[rows],
        )
        for rows in (slice(0, 2), slice(2, 6))
    ]
    joined = MultiViewOpinion.concatenate(parts)
    pd.testing.assert_frame_equal(joined.to_frame(), whole.to_frame())
    assert joined.classes is whole.classes
    bare = make()
    assert MultiViewOpinion.concatenate([bare, bare]).present is None
