"""What the collectors read, and what the terms of the codes train."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from rcml_misa.estimators.outputs import evidential_terms, subspace_terms
from rcml_misa.nn.encoders import TableEncoder
from rcml_misa.nn.networks import RCMLMISANet
from rcml_misa.training import seeded

CLASSES, ROWS, WIDTHS = 3, 12, (3, 4, 2)
SHARINGS = ("separate", "tied", "tied-mean", "private")
VIEWS = len(WIDTHS)
WEIGHTS = {"edl": 1.0, "conflict": 0.1, "sim": 0.8, "diff": 0.3, "recon": 0.8}
CODES = ("sim", "diff", "recon")


def network(*, random=True, **options):
    """A small network in float64; `random` moves the tokens' collectors away from zero."""
    sizes = {"classes": CLASSES, "hidden": 8, "feedforward": 8, "encoder_width": 6}
    with seeded(0):
        net = RCMLMISANet([TableEncoder(width) for width in WIDTHS], **sizes | options).double()
        if random:
            for part in (net.collect.private, net.collect.shared):
                if part is not None:
                    nn.init.normal_(part.weight)
                    nn.init.normal_(part.bias)
    return net.eval()


def batch(rows=ROWS):
    rng = torch.Generator().manual_seed(1)
    return [torch.randn(rows, width, generator=rng, dtype=torch.float64) for width in WIDTHS]


def present_views(gaps):
    """Half of the rows lack the third view, if there are gaps."""
    if not gaps:
        return None
    present = torch.ones(ROWS, VIEWS, dtype=torch.bool)
    present[::2, 2] = False
    return present


# what the terms of the codes train


def losses(net, present):
    """Terms of a pass in training mode, with the same dropout each time."""
    target = torch.eye(CLASSES, dtype=torch.float64)[torch.arange(ROWS) % CLASSES]
    with seeded(2):
        output = net.train()(batch(), present)
    return evidential_terms(output, target, kl_weight=0.5) | subspace_terms(output)


def gradients(net, names, present=None):
    """Gradients of the weighted sum of the named terms, None where a parameter has no part."""
    net = deepcopy(net)
    terms = losses(net, present)
    sum(WEIGHTS[name] * terms[name] for name in names).backward()
    return {name: parameter.grad for name, parameter in net.named_parameters()}


def moved(gradient):
    return gradient is not None and bool(gradient.any())


def parts(gradient_of, *names):
    return {name: value for name, value in gradient_of.items() if name.startswith(names)}


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("names", [CODES, *((name,) for name in CODES)])
def test_terms_of_the_codes_train_the_subspaces_alone(names, gaps):
    net = network(dropout=0.2, subspace_gradient="codes")
    found = gradients(net, names, present_views(gaps))
    subspaces = parts(found, "subspaces.")
    assert not any(moved(value) for name, value in found.items() if name not in subspaces)
    trained = {"sim": ("shared",), "diff": ("private", "shared")}
    wanted = {
        part for name in names for part in trained.get(name, ("private", "shared", "decoder"))
    }
    for name, gradient in subspaces.items():
        assert moved(gradient) == (name.split(".")[1] in wanted), name
    for part in wanted - {"shared"}:  # of each view
        assert (subspaces[f"subspaces.{part}.weight"].abs().amax(dim=(1, 2)) > 0).all()


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", CODES)
def test_terms_of_the_codes_train_the_encoders_too_as_published(name, gaps):
    net = network(dropout=0.2, subspace_gradient="encoders")
    found = gradients(net, (name,), present_views(gaps))
    encoders = parts(found, "encode.", "project.")
    # a batch's mean takes the layers' own offsets away
    offsets = {f"encode.deeper.{layer}.bias" for layer in range(len(net.encode.deeper))}
    assert all(moved(value) for part, value in encoders.items() if part not in offsets)
    assert not any(map(moved, parts(found, "collect.", "fuse_tokens.").values()))


@pytest.mark.parametrize("gaps", [False, True])
def test_encoders_learn_as_if_there_were_no_terms_of_the_codes(gaps):
    present = present_views(gaps)
    whole, without = (
        gradients(network(dropout=0.2), names, present) for names in (WEIGHTS, ("edl", "conflict"))
    )
    for name in parts(whole, "encode.", "project.", "fuse_tokens.", "collect."):
        torch.testing.assert_close(whole[name], without[name], rtol=1e-12, atol=1e-15)
    for name in parts(whole, "subspaces.private.", "subspaces.shared."):
        assert not torch.allclose(whole[name], without[name])
    published = gradients(network(dropout=0.2, subspace_gradient="encoders"), WEIGHTS, present)
    for name in parts(whole, "encode.first.", "project.linears."):
        assert not torch.allclose(whole[name], published[name])
    torch.testing.assert_close(
        parts(whole, "subspaces."), parts(published, "subspaces."), rtol=1e-12, atol=1e-15
    )


def test_what_the_terms_train_does_not_change_their_values():
    codes, encoders = (
        losses(network(dropout=0.2, subspace_gradient=kind), None) for kind in ("codes", "encoders")
    )
    for name, value in codes.items():
        torch.testing.assert_close(value, encoders[name], rtol=1e-12, atol=0)


# what the collectors read


def collected(net, present=None):
    """Arguments of a network's collectors on the batch, and its output."""
    heard = []
    hook = net.collect.register_forward_pre_hook(lambda module, given: heard.append(given))
    output = net(batch(), present)
    hook.remove()
    return heard[0], output


@pytest.mark.parametrize("sharing", SHARINGS)
def test_collectors_of_tokens_read_nothing_else(sharing):
    net = network(readout="tokens", sharing=sharing, random=False)
    assert net.collect.own is None
    assert net.collect.all is None
    names = {"private", "shared"} if net.collect.shared is not None else {"private"}
    assert {name.split(".")[0] for name in net.collect.state_dict()} == {"slope", "offset"} | names
    (tokens, encoded, _), output = collected(net)
    wanted = net.collect(tokens, encoded)
    for left, right in zip(wanted, net.collect(tokens, encoded.flip(1) + 9), strict=True):
        assert torch.equal(left, right)
    assert torch.equal(output.logits, output.token_logits)
    assert torch.equal(output.logits, wanted[1].transpose(0, 1))
    other = net.collect(tokens + torch.ones(8).cumsum(0), encoded)
    assert ((other[1] - wanted[1]).abs().amax(dim=-1) > 1e-3).all()


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("readout", ["both", "tokens", "encoders"])
def test_the_transformer_counts_where_tokens_are_read(readout, sharing):
    net = network(readout=readout, sharing=sharing)
    before = net(batch())
    assert moved(before.token_logits) == (readout != "encoders")
    with torch.no_grad():
        for parameter in net.fuse_tokens.parameters():
            parameter.zero_()
    after = net(batch())
    assert not torch.allclose(after.tokens, before.tokens)
    for name in ("fused", "private", "shared", "logits"):
        left, right = getattr(before, name), getattr(after, name)
        if readout == "encoders":
            assert torch.equal(left, right)
        elif left.numel():
            assert not torch.allclose(left, right)


@pytest.mark.parametrize("readout", ["both", "encoders"])
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("gaps", [False, True])
def test_logits_are_the_tokens_part_and_a_direct_one(readout, sharing, gaps):
    net, present = network(readout=readout, sharing=sharing), present_views(gaps)
    collect = net.collect
    (_, encoded, _), output = collected(net, present)
    direct = output.logits - output.token_logits
    for row in range(ROWS):
        wide = []
        for view in range(VIEWS):
            own = encoded[view, row] @ collect.own.weight[view] + collect.own.bias[view, 0]
            torch.testing.assert_close(direct[row, view], own)
            here = present is None or present[row, view]
            wide.append(encoded[view, row] if here else torch.zeros(6, dtype=torch.float64))
        for opinion in direct[row, VIEWS:]:
            joint = collect.all.weight @ torch.cat(wide) + collect.all.bias
            torch.testing.assert_close(opinion, joint)
    assert (collect.all is None) == (sharing == "private")


@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_encoders_alone_speak_before_training(sharing):
    net = network(sharing=sharing, random=False)
    output = net(batch())
    assert not output.token_logits.any()
    assert (output.private.sum(dim=-1) > 0).all()
    (output.fused * torch.arange(CLASSES)).sum().backward()
    # tokens are not read yet, so that their collectors learn before what they read does
    assert not any(moved(parameter.grad) for parameter in net.fuse_tokens.parameters())
    zeros = [net.collect.private] + ([] if sharing == "private" else [net.collect.shared])
    for part in [*zeros, net.collect.own]:
        assert (part.weight.grad.abs().amax(dim=(1, 2)) > 0).all()


# missing views


@pytest.mark.parametrize("readout", ["both", "tokens", "encoders"])
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("collector", ["shares", "softplus"])
def test_values_of_missing_views_reach_no_opinion(readout, sharing, collector):
    net = network(readout=readout, sharing=sharing, collector=collector, layers=2)
    rng = torch.Generator().manual_seed(3)
    present = torch.rand(ROWS, VIEWS, generator=rng) < 0.6
    present[0], present[1] = True, torch.tensor([False, True, False])
    views = batch()
    wild = [
        torch.where(here.unsqueeze(1), view, 50 * view.flip(0) - 7)
        for view, here in zip(views, present.T, strict=True)
    ]
    found, other = net(views, present), net(wild, present)
    for name in ("fused", "private", "shared"):
        torch.testing.assert_close(getattr(other, name), getattr(found, name))
    torch.testing.assert_close(other.logits[:, :VIEWS][present], found.logits[:, :VIEWS][present])
    assert not found.private[~present].any()
    assert (found.private[present].sum(dim=-1) > 0).all()
    # a complete row is told the same beside incomplete ones
    alone = net([view[:1] for view in views])
    for name in ("fused", "private", "shared"):
        torch.testing.assert_close(getattr(found, name)[:1], getattr(alone, name))
    # what a row has does count
    for name in ("fused", "private", "shared"):
        changed = getattr(net([view + 1 for view in views], present), name)[0]
        assert changed.numel() == 0 or not torch.allclose(changed, getattr(found, name)[0])
