"""Fusion of opinions of which one may not belong, against plain loops."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from rcml_misa.exceptions import OptionError
from rcml_misa.opinions import (
    fuse,
    fuse_mixture,
    fuse_views,
    log_shares,
    membership,
    share_conflict,
)

FUSIONS = ("geometric", "mean", "pairwise", "cumulative", "dempster")


def plain_shares(evidence):
    lifted = np.array(evidence, dtype=np.float64) + 1e-6
    return 0.99 * lifted / lifted.sum() + 0.01 / len(lifted)


def plain_mixture(private, shared, witness=None, weights=None):
    """The docstring of `fuse_mixture` in loops; a hundredth of the shares is spread evenly."""
    views, classes = private.shape
    own, common = [plain_shares(e) for e in private], [plain_shares(e) for e in shared]
    opinions = [*private, *shared]
    mass = 0.0
    for k in range(classes):
        product = 1.0
        for e in opinions:
            product *= (1 + e[k]) ** (1 / len(opinions))
        mass += product - 1
    counts = [*np.ones(views), 1.5] if weights is None else weights
    every = np.ones(classes)
    for p, count in zip(own, counts, strict=False):
        every = every * p**count
    for p in common:
        every = every * p ** (counts[-1] / len(common))
    every = every / every.sum()
    if views == 1:
        return mass * every
    seen = own if witness is None else [plain_shares(e) for e in witness]
    weights, shares = [0.8], [every]
    for view in range(views):
        q = np.ones(classes)
        for other in range(views):
            if other != view:
                q = q * seen[other]
        q = q / q.sum()
        weights.append(0.2 / views / (classes * sum(seen[view] * q)))
        shares.append(q)
    mixed = sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(weights)
    return mass * mixed


def evidence_stack(rng, count, classes, scale):
    """Skewed evidence with some zeros."""
    found = rng.gamma(0.3, scale, size=(count, classes))
    return np.where(rng.random(found.shape) < 0.2, 0, found)


@given(
    views=st.integers(1, 6),
    shared=st.integers(0, 3),
    classes=st.integers(2, 6),
    scale=st.floats(0.1, 100.0),
    witnessed=st.booleans(),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_mixture_follows_its_docstring(views, shared, classes, scale, witnessed, seed):
    rng = np.random.default_rng(seed)
    private = evidence_stack(rng, views, classes, scale)
    common = evidence_stack(rng, shared, classes, scale)
    witness = rng.dirichlet(np.ones(classes), size=views) if witnessed else None
    tensors = [None if x is None else torch.from_numpy(x) for x in (private, common, witness)]
    wanted = plain_mixture(private, common, witness)
    np.testing.assert_allclose(fuse_mixture(*tensors).numpy(), wanted, rtol=1e-6, atol=1e-12)
    weights = rng.random(views + 1)
    wanted = plain_mixture(private, common, witness, weights)
    found = fuse_mixture(*tensors, weights=torch.from_numpy(weights)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-12)


@given(
    views=st.integers(2, 6),
    shared=st.integers(0, 3),
    scale=st.floats(0.1, 100.0),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=30, derandomize=True)
def test_fusion_and_conflict_do_not_depend_on_the_order_of_views(views, shared, scale, seed):
    rng = np.random.default_rng(seed)
    private = torch.from_numpy(evidence_stack(rng, views, 4, scale))
    common = torch.from_numpy(evidence_stack(rng, shared, 4, scale))
    witness = torch.from_numpy(rng.dirichlet(np.ones(4), size=views))
    order = torch.from_numpy(rng.permutation(views))
    weights = torch.from_numpy(rng.random(views + 1))
    for seen in (None, witness):
        moved = fuse_mixture(
            private[order],
            common.flip(0),
            None if seen is None else seen[order],
            weights=torch.cat([weights[:views][order], weights[views:]]),
        )
        wanted = fuse_mixture(private, common, seen, weights=weights)
        assert torch.allclose(moved, wanted, rtol=1e-9)
    assert torch.allclose(share_conflict(private[order]), share_conflict(private))


def test_mixture_works_row_by_row():
    rng = np.random.default_rng(0)
    private = torch.from_numpy(rng.gamma(1.0, size=(7, 3, 4)))
    shared = torch.from_numpy(rng.gamma(1.0, size=(7, 2, 4)))
    whole = fuse_mixture(private, shared)
    for row in range(7):
        assert torch.allclose(whole[row], fuse_mixture(private[row], shared[row]))


def test_mixture_of_nothing_is_nothing():
    assert fuse_mixture(torch.zeros(3, 4), torch.zeros(2, 4)).abs().max() == 0
    stack = torch.zeros(3, 4, requires_grad=True)
    fuse_mixture(stack, torch.zeros(0, 4)).sum().backward()
    assert stack.grad.isfinite().all()


@given(views=st.integers(1, 5), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_share_conflict_against_loops(views, seed):
    evidence = evidence_stack(np.random.default_rng(seed), views, 3, 5.0)
    worst = 0.0
    for first, second in combinations(evidence, 2):
        p, q = (e / max(e.sum(), 1e-12) for e in (first, second))
        worst = max(worst, np.abs(p - q).sum() / 2 * p.max() * q.max())
    assert float(share_conflict(torch.from_numpy(evidence))) == pytest.approx(worst, abs=1e-12)
    assert 0 <= worst <= 1


def test_shared_opinions_can_turn_a_prediction():
    private = torch.tensor([[2.0, 1.8, 0.0], [2.0, 1.8, 0.0]])
    shared = torch.tensor([[0.0, 30.0, 0.0]])
    assert fuse_mixture(private, torch.empty(0, 3)).argmax() == 0
    assert fuse_mixture(private, shared).argmax() == 1


def plain_membership(shares):
    """The docstring's formula in loops."""
    views, classes = shares.shape
    odds = [0.8]
    for view in range(views):
        product = np.ones(classes)
        for other in range(views):
            if other != view:
                product = product * plain_shares(shares[other])
        product = product / product.sum()
        odds.append(0.2 / views / (classes * sum(plain_shares(shares[view]) * product)))
    return np.array(odds) / sum(odds)


@given(
    views=st.integers(2, 5),
    classes=st.integers(2, 6),
    sharp=st.floats(0.1, 6.0),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_membership_follows_its_formula(views, classes, sharp, seed):
    rng = np.random.default_rng(seed)
    shares = softmax(sharp * rng.normal(size=(5, views, classes)), axis=2)
    found, others = (part.numpy() for part in membership(torch.from_numpy(shares)))
    np.testing.assert_allclose(found, [plain_membership(row) for row in shares], rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(others.sum(axis=2), 1)
    order = rng.permutation(views)
    moved = membership(torch.from_numpy(shares[:, order]))[0].numpy()
    np.testing.assert_allclose(moved[:, 1:], found[:, 1:][:, order], rtol=1e-9)


def test_membership_where_nothing_is_known_is_the_prior():
    posterior, _ = membership(torch.full((4, 5), 0.2))
    np.testing.assert_allclose(posterior, [0.8, 0.05, 0.05, 0.05, 0.05], rtol=1e-5)


def test_shares_keep_a_hundredth_for_the_other_classes():
    found = log_shares(torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.0, 0.0]])).exp()
    wanted = [[0.99 + 0.01 / 3, 0.01 / 3, 0.01 / 3], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


# any operator, missing views, discount


def views_with_gaps(seed, views, shared, classes=4, rows=6):
    """Evidence of views and of what rests on all, none where a row lacks the view."""
    rng = np.random.default_rng(seed)
    private, common = (
        rng.gamma(0.5, 5.0, size=(rows, count, classes)) for count in (views, shared)
    )
    present = rng.random((rows, views)) < 0.6
    present[0], present[1] = True, False
    private[~present] = 0
    if shared == views:
        common[~present] = 0
    elif shared:
        common[~present.any(axis=1)] = 0
    return private, common, present


def rows_alone(private, common, present):
    """Each row's own opinions as if there were no others."""
    per_view = common.shape[1] == private.shape[1]
    for own, shared, here in zip(private, common, present, strict=True):
        existing = here if per_view else np.full(len(shared), here.any())
        yield torch.from_numpy(own[here]), torch.from_numpy(shared[existing]), here


sizes = given(
    views=st.integers(1, 5),
    kind=st.sampled_from(["none", "one", "each"]),
    seed=st.integers(0, 999),
)


def shared_count(kind, views):
    return {"none": 0, "one": 1, "each": views}[kind]


@sizes
@settings(deadline=None, max_examples=30, derandomize=True)
def test_views_are_fused_by_the_mixture(views, kind, seed):
    private, common, present = views_with_gaps(seed, views, shared_count(kind, views))
    tensors = [torch.from_numpy(part) for part in (private, common)]
    weights = np.random.default_rng(seed).random(views + 1)
    for chosen in (None, weights):
        given_ = None if chosen is None else torch.from_numpy(chosen)
        for discount in (True, False):  # for other operators
            found = fuse_views(*tensors, discount=discount, weights=given_)
            torch.testing.assert_close(found, fuse_mixture(*tensors, weights=given_))
        found = fuse_views(*tensors, weights=given_, present=torch.from_numpy(present)).numpy()
        counts = np.array([*np.ones(views), 1.5]) if chosen is None else chosen
        for row, (own, shared, here) in enumerate(rows_alone(private, common, present)):
            if not here.any():
                assert not found[row].any()
                continue
            # what rests on all views weighs less where some are missing
            alone = np.append(counts[:-1][here], counts[-1] * here.mean())
            wanted = plain_mixture(own.numpy(), shared.numpy(), weights=alone)
            np.testing.assert_allclose(found[row], wanted, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("discount", [True, False])
@pytest.mark.parametrize("operator", FUSIONS)
@sizes
@settings(deadline=None, max_examples=15, derandomize=True)
def test_views_are_fused_by_any_operator(operator, discount, views, kind, seed):
    count = shared_count(kind, views)
    private, common, present = views_with_gaps(seed, views, count)
    tensors = [torch.from_numpy(part) for part in (private, common)]
    found = fuse_views(
        *tensors, operator=operator, discount=discount, present=torch.from_numpy(present)
    )
    for row, (own, shared, here) in enumerate(rows_alone(private, common, present)):
        if not here.any():
            assert not found[row].any()
            continue
        trust = (1 - share_conflict(own)) / count if discount and count else 1.0
        weights = torch.cat([torch.ones(len(own)), torch.ones(len(shared)) * trust]).double()
        wanted = fuse(torch.cat([own, shared]), operator=operator, weights=weights)
        torch.testing.assert_close(found[row], wanted)
    whole = torch.ones(len(present), views, dtype=torch.bool)
    torch.testing.assert_close(
        fuse_views(*tensors, operator=operator, discount=discount, present=whole),
        fuse_views(*tensors, operator=operator, discount=discount),
    )


@pytest.mark.parametrize("operator", ["mean", "cumulative", "geometric", "dempster"])
def test_a_joint_view_of_contradicting_views_is_no_witness(operator):
    agreed = torch.tensor([[9.0, 0.0], [9.0, 0.0]], dtype=torch.double)
    opposed = torch.tensor([[9.0, 0.0], [0.0, 9.0]], dtype=torch.double)
    shared = torch.tensor([[0.0, 6.0]], dtype=torch.double)
    alone = fuse_views(opposed, shared[:0], operator=operator)
    torch.testing.assert_close(fuse_views(opposed, shared, operator=operator), alone)
    plain = fuse_views(opposed, shared, operator=operator, discount=False)
    assert not torch.allclose(plain, alone)
    torch.testing.assert_close(
        fuse_views(agreed, shared, operator=operator),
        fuse(torch.cat([agreed, shared]), operator=operator),
    )


def test_an_unknown_operator_is_refused():
    with pytest.raises(OptionError, match="fusion='average'"):
        fuse_views(torch.ones(2, 3), torch.ones(1, 3), operator="average")
