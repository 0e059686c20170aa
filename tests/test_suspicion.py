"""Suspects are named, told apart and left out by their gains, whichever opinion holds them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcml_misa.estimators import MultiViewOpinion, ScoreOpinion
from rcml_misa.estimators.suspicion import Suspicion

NAN = float("nan")


def plain_suspect(names, gains, limits, learnt):
    """The rules row by row: name, clear."""
    own = [(gain, number) for number, gain in enumerate(gains) if not np.isnan(gain)]
    if len(own) < 2:
        return "", False
    (second, other), (first, best) = sorted(own)[-2:]
    apart = second <= max(0.8 * first, 0) and (len(own) > 2 or learnt)
    name = names[best] if apart else "|".join(names[n] for n in sorted((best, other)))
    return (name if first > limits[0] else ""), bool(first > limits[1] and apart)


@given(
    gains=st.lists(
        st.lists(st.one_of(st.just(NAN), st.floats(-1, 1)), min_size=4, max_size=4), min_size=1
    ),
    views=st.integers(1, 4),
    learnt=st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_names_follow_the_rules_row_by_row(gains, views, learnt) -> None:
    names, limits = tuple("abcd"[:views]), (0.2, 0.5)
    rows = np.array(gains)[:, :views]
    suspicion = Suspicion(names, rows, limits, learnt)
    wanted = [plain_suspect(names, row, limits, learnt) for row in rows]
    assert list(zip(suspicion.suspect.tolist(), suspicion.clear.tolist(), strict=True)) == wanted
    several = (~np.isnan(rows)).sum(axis=1) > 1
    largest = [np.nanmax(row) if able else 0 for row, able in zip(rows, several, strict=True)]
    np.testing.assert_array_equal(suspicion.gain, largest)


GAINS = np.array([[0.6, 0.0, 0.1], [0.3, 0.0, 0.1], [0.6, 0.55, 0.0], [0.1, NAN, 0.6]])


def classes() -> MultiViewOpinion:
    rng = np.random.default_rng(0)
    views = {name: 9 * rng.random((4, 2)) for name in "abc"}
    views["b"][3] = 0
    return MultiViewOpinion(
        rng.random((4, 2)), views, np.empty((4, 0, 2)), rng.random(4), view_gains=GAINS,
        rest=rng.random((4, 2)), limits=(0.2, 0.5), present=~np.isnan(GAINS),
    )  # fmt: skip


def scores() -> ScoreOpinion:
    rng = np.random.default_rng(0)
    rest = ScoreOpinion(*(1 + rng.random((4, 4))), views={})
    views = {name: ScoreOpinion(*(1 + rng.random((4, 4))), views={}) for name in "abc"}
    return ScoreOpinion(
        *(1 + rng.random((4, 4))), views=views, view_gains=GAINS, rest=rest, limits=(0.2, 0.5)
    )


@pytest.mark.parametrize("make", [classes, scores])
def test_both_kinds_of_opinions_name_the_same(make) -> None:
    opinion = make()
    assert opinion.suspect.tolist() == ["a", "a", "a|b", "a|c"]
    assert opinion.suspicion.clear.tolist() == [True, False, False, False]
    frame = opinion.to_frame()
    assert frame["suspect"].tolist() == opinion.suspect.tolist()
    np.testing.assert_array_equal(frame["suspect_gain"], [0.6, 0.3, 0.6, 0.6])
    np.testing.assert_array_equal(frame[[f"{name}__gain" for name in "abc"]], GAINS)
    bare = dataclasses.replace(opinion, view_gains=None)
    assert not [name for name in bare.to_frame() if "gain" in name or "suspect" in name]
    assert set(bare.suspect) == {""}
    assert bare.without_suspect is bare


@pytest.mark.parametrize(("make", "stated"), [(classes, "evidence"), (scores, "gamma")])
def test_clear_suspects_are_left_out(make, stated) -> None:
    opinion = make()
    left = opinion.without_suspect
    rest = opinion.rest if stated == "evidence" else opinion.rest.gamma
    before, after = getattr(opinion, stated), getattr(left, stated)
    np.testing.assert_array_equal(after[0], rest[0])
    np.testing.assert_array_equal(after[1:], before[1:])
    assert left.suspect.tolist() == opinion.suspect.tolist()
    np.testing.assert_array_equal(getattr(left.without_suspect, stated), after)


def test_what_is_left_out_counts_as_missing() -> None:
    opinion = classes()
    left = opinion.without_suspect
    assert left.present[0].tolist() == [False, True, True]
    assert (left.views["a"][0] == 0).all()
    assert left.most_conflicting[0] in ("b|c", "")
    assert left.conflict[0] == pytest.approx(left.pairwise_conflict[0, 1, 2])
    assert left.to_frame()["a__class"].isna().tolist() == [True, False, False, False]
    np.testing.assert_array_equal(left.views["a"][1:], opinion.views["a"][1:])
    np.testing.assert_array_equal(left.conflict[1:], opinion.conflict[1:])
