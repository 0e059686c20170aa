"""Losses with closed-form gradients against plain formulas, and memory in views and classes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rcml_misa import losses
from rcml_misa.losses import (
    conflict_loss,
    difference_loss,
    dirichlet_kl,
    edl_loss,
    reconstruction_loss,
    similarity_loss,
)
from rcml_misa.losses.special import digamma_trigamma
from rcml_misa.nn.encoders import DeepEncoders, TableEncoder
from rcml_misa.nn.subspaces import Subspaces
from rcml_misa.opinions import (
    contradiction,
    degree_of_conflict,
    dissonance,
    fuse_views,
    mean_conflict,
    pairwise_conflict,
    share_conflict,
    total_conflict,
)
from rcml_misa.opinions.slopes import with_slopes

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]


def evidence(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).exponential(4, shape))


def codes(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def labels(rows: int, classes: int, *, soft: bool = False) -> Tensor:
    rng = np.random.default_rng(1)
    target = np.eye(classes)[rng.integers(classes, size=rows)]
    if soft:
        target = 0.7 * target + 0.3 * np.eye(classes)[rng.integers(classes, size=rows)]
    return torch.from_numpy(target)


# plain formulas, whose gradients autograd works out operation by operation


def plain_kl(e: Tensor, y: Tensor, prior: float) -> Tensor:
    alpha = prior * y + (1 - y) * (e + prior)
    strength, classes = alpha.sum(dim=-1, keepdim=True), alpha.shape[-1]
    flat = torch.lgamma(alpha.new_tensor([classes * prior, prior]))
    norm = torch.lgamma(strength).squeeze(-1) - torch.lgamma(alpha).sum(dim=-1)
    gap = torch.digamma(alpha) - torch.digamma(strength)
    return norm - (flat[0] - classes * flat[1]) + ((alpha - prior) * gap).sum(dim=-1)


def plain_edl(e: Tensor, y: Tensor, kl_weight: float, prior: float) -> Tensor:
    alpha = e + prior
    terms = y * (torch.digamma(alpha.sum(dim=-1, keepdim=True)) - torch.digamma(alpha))
    return terms.sum(dim=-1) + kl_weight * plain_kl(e, y, prior)


def plain_conflict(e: Tensor) -> Tensor:
    pairs = combinations(range(e.shape[-2]), 2)
    return sum(  # type: ignore[return-value]
        (degree_of_conflict(e[..., i, :], e[..., j, :]) for i, j in pairs),
        e.new_zeros(e.shape[:-2]),
    )


def plain_similarity(shared: Tensor, weights: Tensor | None = None) -> Tensor:
    views = shared.shape[1]
    w = torch.ones_like(shared[..., 0]) if weights is None else weights
    share = (w / w.sum(dim=0).clamp_min(1e-12)).unsqueeze(-1)
    mean = (share * shared).sum(dim=0)
    moments = [mean, *((share * (shared - mean) ** k).sum(dim=0) for k in range(2, 6))]
    seen = [v for v in range(views) if bool((w[:, v] > 0).any())]
    pairs = [sum((c[i] - c[j]).norm() for c in moments) for i, j in combinations(seen, 2)]
    return sum(pairs) / len(pairs)  # type: ignore[return-value]


def plain_difference(private: Tensor, shared: Tensor, weights: Tensor | None = None) -> Tensor:
    w = torch.ones_like(shared[..., 0]) if weights is None else weights
    share = (w / w.sum(dim=0)).unsqueeze(-1)

    def unit(z: Tensor) -> Tensor:
        centred = z - (share * z).sum(dim=0)
        length = centred.norm(dim=-1, keepdim=True).detach() + 1e-6
        return centred / length * w.sqrt().unsqueeze(-1)

    own, common = unit(private).unbind(dim=1), unit(shared).unbind(dim=1)
    pairs = [*zip(own, common, strict=True), *combinations(own, 2)]
    return sum((x.T @ y).square().mean() for x, y in pairs)  # type: ignore[return-value]


def assert_same(
    loss: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor, rtol: float = 1e-10
) -> None:
    """Compare values and gradients, of a random weighting of the values."""
    results = []
    for function in (loss, plain):
        leaves = [each.clone().requires_grad_() for each in inputs]
        values = function(*leaves)
        weights = torch.linspace(0.5, 2, max(values.numel(), 1), dtype=values.dtype)
        (values * weights.view(values.shape).to(values.device)).sum().backward()
        results.append([values.detach(), *(leaf.grad for leaf in leaves)])
    for found, expected in zip(*results, strict=True):
        assert found is not None
        scale = float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("prior", [1.0, 0.3])
@pytest.mark.parametrize("kl_weight", [0.0, 0.4])
def test_edl_is_the_plain_formula(soft, prior, kl_weight):
    e, y = evidence(6, 3, 5), labels(6, 5, soft=soft).unsqueeze(1)
    e[0, 0] = 0

    def loss(e: Tensor) -> Tensor:
        return edl_loss(e, y, kl_weight=kl_weight, prior=prior, reduction="none")

    # torch's trigamma has nine digits
    assert_same(loss, lambda e: plain_edl(e, y, kl_weight, prior), e, rtol=1e-8)


@pytest.mark.parametrize("soft", [False, True])
def test_kl_is_the_plain_formula(soft):
    e, y = evidence(6, 5), labels(6, 5, soft=soft)
    loss = lambda e: dirichlet_kl(e, y, prior=0.5, reduction="none")  # noqa: E731
    assert_same(loss, lambda e: plain_kl(e, y, 0.5), e, rtol=1e-8)


@pytest.mark.parametrize("soft", [False, True])
def test_edl_in_single_precision(soft):
    e, y = evidence(50, 7, 68), labels(50, 68, soft=soft).unsqueeze(1)
    single = e.float().requires_grad_()
    double = e.clone().requires_grad_()
    for each, target in ((single, y.float()), (double, y)):
        edl_loss(each, target, kl_weight=0.1).backward()
    assert single.grad is not None
    assert double.grad is not None
    scale = float(double.grad.abs().max())
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-5, atol=1e-6 * scale)


def test_evidence_of_any_size_has_a_finite_loss():
    e = torch.tensor([[0.0, 1e-30, 1e8], [1e12, 1e15, 0.0]], requires_grad=True)
    edl_loss(e, torch.eye(3)[:2], kl_weight=0.1).backward()
    assert e.grad is not None
    assert bool(torch.isfinite(e.grad).all())


@pytest.mark.parametrize("soft", [False, True])
def test_gradients_of_evidence_by_differences(soft):
    y = labels(4, 3, soft=soft).unsqueeze(1)
    e = evidence(4, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: edl_loss(e, y, kl_weight=0.3, reduction="none"), e)
    assert torch.autograd.gradcheck(total_conflict, e)


def test_digamma_and_trigamma():
    grid = np.concatenate([np.logspace(-3, 12, 4001), np.linspace(1, 3, 1001)])
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        x = torch.from_numpy(grid).to(dtype)
        digamma, trigamma = (part.double().numpy() for part in digamma_trigamma(x))
        exact = x.double().numpy()
        expected = special.digamma(exact)
        error = np.abs(digamma - expected) / np.maximum(1, np.abs(expected))
        assert error.max() < tolerance
        assert np.abs(trigamma / special.polygamma(1, exact) - 1).max() < tolerance
    for part in digamma_trigamma(torch.tensor([1e20, 3e38])):
        assert bool(torch.isfinite(part).all())


def test_one_digamma_and_one_trigamma_per_element(monkeypatch):
    elements = []

    def counted(x: Tensor) -> tuple[Tensor, Tensor]:
        elements.append(x.numel())
        return digamma_trigamma(x)

    monkeypatch.setattr(losses.evidential, "digamma_trigamma", counted)
    e = evidence(8, 5, 40).requires_grad_()
    edl_loss(e, labels(8, 40).unsqueeze(1), kl_weight=0.1).backward()
    assert sum(elements) <= e.numel() + 2 * e.numel() / 40  # and of two strengths


def test_a_single_opinion_is_in_no_conflict():
    e = evidence(6, 1, 5).requires_grad_()
    total = total_conflict(e)
    total.sum().backward()
    assert not total.any()
    assert e.grad is not None
    assert not e.grad.any()


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_conflict_is_the_sum_over_pairs(count):
    e = evidence(6, count, 5)
    assert_same(total_conflict, plain_conflict, e)
    assert_same(lambda e: mean_conflict(e) * count * (count - 1) / 2, plain_conflict, e)
    loss = lambda e: conflict_loss(e, reduction="none") * (count - 1) / 2  # noqa: E731
    assert_same(loss, plain_conflict, e)
    pairs = pairwise_conflict(e)
    torch.testing.assert_close(pairs, pairs.transpose(1, 2))
    torch.testing.assert_close(pairs.sum(dim=(1, 2)), 2 * plain_conflict(e))


def test_conflict_of_present_opinions():
    e, present = evidence(6, 4, 5), codes(6, 4) > 0.4
    for row, here in zip(e, present, strict=True):
        count = int(here.sum())
        expected = plain_conflict(row[here]) / max(count * (count - 1) / 2, 1)
        torch.testing.assert_close(mean_conflict(row, here), expected)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_share_conflict_is_the_largest_of_all_pairs(count):
    def plain(e: Tensor) -> Tensor:
        shares = e / e.sum(dim=-1, keepdim=True)
        peak = shares.amax(dim=-1)
        i, j = torch.triu_indices(count, count, offset=1)
        return contradiction(shares[:, i], shares[:, j], peak[:, i], peak[:, j]).amax(dim=-1)

    assert_same(share_conflict, plain, evidence(9, count, 5))


@pytest.mark.parametrize("views", [2, 3, 4, 7])
@pytest.mark.parametrize("weighted", [False, True])
def test_subspace_losses_are_the_plain_formulas(views, weighted):
    private, shared = codes(9, views, 4), codes(9, views, 4, seed=1)
    weights = None
    if weighted:
        weights = codes(9, views, seed=2) * (codes(9, views, seed=3) > 0.3)
        weights = weights * (torch.arange(views) != 2)  # view 2 has no row
        if views == 3:
            weights[0] = 0.5  # each of both has some
    similarity = lambda x: similarity_loss(x, weights=weights)  # noqa: E731
    assert_same(similarity, lambda x: plain_similarity(x, weights), shared)
    if weighted:  # the plain form divides by the sum of a view's weights
        weights = weights.clamp_min(1e-3)  # type: ignore[union-attr]
    difference = lambda x, y: difference_loss(x, y, weights=weights)  # noqa: E731
    assert_same(difference, lambda x, y: plain_difference(x, y, weights), private, shared)


def test_orthogonality_keeps_its_digits_in_single_precision():
    base = codes(256, 1, 64)  # views that nearly repeat each other lose most in a difference
    private = base + 0.1 * codes(256, 3, 64, seed=1)
    shared = codes(256, 3, 64, seed=2)
    exact = float(difference_loss(private, shared))
    assert float(difference_loss(private.float(), shared.float())) == pytest.approx(exact, rel=1e-5)


def test_codes_computed_once_have_the_gradients_of_both_uses():
    torch.manual_seed(0)
    layer = Subspaces(views=3, hidden=4).double()
    inputs, weights = codes(3, 5, 4), codes(4, 6, 5, 4, seed=1)

    def gradients(twice: bool) -> list[Tensor | None]:
        layer.zero_grad()
        x = inputs.clone().requires_grad_()
        if twice:
            both, again = layer.twice(x)
        else:
            own, again = layer(x), layer(x.detach())
            both = torch.cat([own.private, own.shared])
        seen = torch.cat([again.private, again.shared])
        loss = (both * weights[0]).sum() + (seen * weights[1]).sum()
        (loss + (again.reconstructed * weights[2, :3]).sum()).backward()
        return [x.grad, *(parameter.grad for parameter in layer.parameters())]

    for found, expected in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(found, expected)


def test_cut_and_dropped_layers_have_the_gradient_of_relu_and_dropout():
    torch.manual_seed(0)
    encode = DeepEncoders([TableEncoder(3)], width=4, depth=1, dropout=0.4).double().train()
    x = codes(8, 3)
    torch.manual_seed(1)
    encode([x]).square().sum().backward()
    found = encode.first[0].weight.grad
    encode.zero_grad()
    torch.manual_seed(1)
    wide = encode.first[0](x)
    mask = (torch.rand_like(wide) >= 0.4) / 0.6
    (encode.norms[0](wide).relu() * mask).square().sum().backward()
    torch.testing.assert_close(found, encode.first[0].weight.grad)


def test_values_without_a_gradient_hold_no_slopes():
    x = torch.ones(3)
    assert not with_slopes(lambda x: (x.sum(), (x,)), [x]).requires_grad
    with torch.no_grad():
        y = nn.Parameter(torch.ones(3))
        assert not with_slopes(lambda x: (x.sum(), (x,)), [y]).requires_grad


@pytest.mark.parametrize("device", DEVICES)
def test_losses_are_computed_where_their_inputs_are(device):
    private, shared = codes(6, 3, 4).to(device), codes(6, 3, 4, seed=1).to(device)
    e, y = evidence(6, 3, 5).to(device), labels(6, 5).unsqueeze(1).to(device)
    for leaf in (private, shared, e):
        leaf.requires_grad_()
    terms = [
        edl_loss(e, y, kl_weight=0.1),
        conflict_loss(e),
        similarity_loss(shared, weights=codes(6, 3, seed=5).to(device)),
        difference_loss(private, shared),
        reconstruction_loss(private, shared),
        fuse_views(e, e[:, :1], operator="mean").sum(),
    ]
    sum(terms).backward()  # type: ignore[union-attr]
    assert {leaf.grad.device.type for leaf in (private, shared, e)} == {device}  # type: ignore


class Largest(TorchDispatchMode):
    """Entries of the largest tensor that an operation gives, and of what backward passes hold."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, Tensor):
                self.entries = max(self.entries, each.untyped_storage().size() // 8)
        return result


def entries(function: Callable[[Tensor], Tensor], *shape: int) -> tuple[int, int]:
    """Entries of the largest result, and all that is held for the backward pass."""
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.size() // 8
        return tensor

    e = evidence(*shape).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), Largest() as largest:
        function(e).sum().backward()
    return largest.entries, sum(held.values())


def subspace(loss: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: loss(x.transpose(0, 1), x.transpose(0, 1).detach())


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "edl": lambda e: edl_loss(e, labels(len(e), e.shape[-1]).unsqueeze(1), kl_weight=0.1),
    "conflict": conflict_loss,
    "all pairs": pairwise_conflict,
    "similarity": similarity_loss,
    "difference": lambda e: difference_loss(e, e.detach()),
    **{
        operator: lambda e, operator=operator: fuse_views(e, e.flip(0), operator=operator)  # type: ignore
        for operator in ("mixture", "geometric", "mean", "pairwise", "cumulative", "dempster")
    },
}


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "all pairs"])
def test_memory_grows_with_the_number_of_views_not_of_pairs(name):
    small, large = (entries(FUNCTIONS[name], 8, views, 30) for views in (24, 48))
    assert large[0] <= 2.2 * small[0]
    assert large[1] <= 2.2 * small[1]


@pytest.mark.parametrize("name", [*FUNCTIONS, "dissonance"])
def test_memory_grows_with_the_number_of_classes_not_of_its_square(name):
    function = {**FUNCTIONS, "dissonance": dissonance}[name]
    if name == "difference":  # H x H overlaps of codes of width H are what the loss is
        pytest.skip("codes have no classes")
    small, large = (entries(function, 4, 4, classes) for classes in (60, 120))
    assert large[0] <= 2.2 * small[0]
    if name != "dissonance":  # not a loss
        assert large[1] <= 2.2 * small[1]
