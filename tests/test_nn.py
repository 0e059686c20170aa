"""The networks: shapes, gradients, masks, fusion against plain loops."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rcml_misa.estimators.published import notes_loss
from rcml_misa.nn.encoders import StackedLinear, TableEncoder
from rcml_misa.nn.networks import NotesNet, RCMLMISANet
from rcml_misa.nn.peers import RCMLNet
from rcml_misa.nn.tokens import Collectors, EvidenceCollector, TokenFusion, shares_to_evidence
from rcml_misa.opinions import share_conflict
from rcml_misa.training import seeded

COUNTS = (1, 2, 3, 6)
SHARINGS = ("separate", "tied", "tied-mean", "private")
FUSIONS = ("mixture", "geometric", "mean", "pairwise", "cumulative", "dempster")
READOUTS = ("both", "tokens", "encoders")
ROWS, CLASSES, HIDDEN, WIDTH = 5, 4, 8, 8


def shared_opinions(sharing, views):
    return {"separate": views, "tied": views, "tied-mean": 1, "private": 0}[sharing]


def network(views=3, *, seed=0, random=True, **options):
    """A small network; `random` moves the tokens' collectors away from their start at zero."""
    encoders = [TableEncoder(2 + view) for view in range(views)]
    sizes = {"classes": CLASSES, "hidden": HIDDEN, "feedforward": 16, "encoder_width": WIDTH}
    with seeded(seed):
        net = RCMLMISANet(encoders, **sizes | options)
        if random:
            for part in (net.collect.private, net.collect.shared):
                if part is not None:
                    nn.init.normal_(part.weight)
                    nn.init.normal_(part.bias)
    return net.eval()


def batch(views=3, *, rows=ROWS, seed=1):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 2 + view, generator=rng) for view in range(views)]


def reached(gradient, views):
    """Whether it is not zero for each of the views, which lie side by side along the last axis."""
    return (gradient.unflatten(-1, (views, -1)).abs() > 0).any(dim=-1).all()


@pytest.mark.parametrize("views", COUNTS)
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_shapes(views, sharing, fusion):
    opinions = shared_opinions(sharing, views)
    found = network(views, sharing=sharing, fusion=fusion)(batch(views))
    assert found.fused.shape == (ROWS, CLASSES)
    assert found.private.shape == (ROWS, views, CLASSES)
    assert found.shared.shape == (ROWS, opinions, CLASSES)
    assert found.logits.shape == found.token_logits.shape == (ROWS, views + opinions, CLASSES)
    for codes in (
        found.projected,
        found.private_codes,
        found.shared_codes,
        found.reconstructed,
    ):
        assert codes.shape == (ROWS, views, HIDDEN)
    assert found.tokens.shape == (ROWS, 2 * views, HIDDEN)
    for evidence in (found.fused, found.private, found.shared):
        assert (evidence >= 0).all()
        assert evidence.isfinite().all()


@pytest.mark.parametrize("collector", ["shares", "softplus"])
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("views", COUNTS)
def test_a_new_network_has_opinions_already(views, readout, collector):
    found = network(views, readout=readout, collector=collector, random=False)(batch(views))
    assert found.fused.shape == (ROWS, CLASSES)
    assert (found.private > 0).all()
    assert (found.shared > 0).all()


@pytest.mark.parametrize("views", COUNTS)
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradients_of_the_fused_opinion_reach_every_collector_and_encoder(views, sharing, fusion):
    net = network(views, sharing=sharing, fusion=fusion)
    (net(batch(views)).fused * torch.arange(1.0, 1 + CLASSES)).sum().backward()
    opinions = views + shared_opinions(sharing, views)
    for parameter in (net.collect.slope, net.collect.offset):
        assert parameter.shape == (opinions, 1)
        assert (parameter.grad != 0).all()
    shared = [net.collect.shared] if sharing != "private" else []
    for part in [net.collect.private, net.collect.own, *shared]:
        for parameter in (part.weight, part.bias):
            assert (parameter.grad.abs().amax(dim=(1, 2)) > 0).all()
    if sharing == "private":
        assert net.collect.all is None
    else:
        assert reached(net.collect.all.weight.grad, views)
    for part in (net.subspaces.private.weight, net.subspaces.private.bias):
        assert (part.grad.abs().amax(dim=(1, 2)) > 0).all()
    for norm in net.encode.norms:
        assert reached(norm.weight.grad, views)
        assert reached(norm.bias.grad, views)
    (deeper,) = net.encode.deeper
    assert (deeper.weight.grad.abs().amax(dim=(1, 2)) > 0).all()
    several = [net.encode.first, net.project, net.subspaces.shared, net.fuse_tokens]
    for part in several:
        for parameter in part.parameters():
            assert parameter.grad.abs().max() > 0


def test_reconstruction_reaches_the_decoders():
    net = network()
    net(batch()).reconstructed.square().sum().backward()
    assert (net.subspaces.decoder.weight.grad.abs().amax(dim=(1, 2)) > 0).all()


@pytest.mark.parametrize("views", COUNTS)
@pytest.mark.parametrize("sharing", ["separate", "tied", "tied-mean"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_shared_opinions_change_the_predictions(monkeypatch, views, sharing, fusion):
    net = network(views, sharing=sharing, fusion=fusion)
    inputs = batch(views)
    with torch.no_grad():
        wanted = net(inputs)
        collect = net.collect.forward

        def without(*parts):
            evidence, *others = collect(*parts)
            evidence = evidence.clone()
            evidence[views:] = 0
            return evidence, *others

        monkeypatch.setattr(net.collect, "forward", without)
        found = net(inputs)
    assert torch.equal(found.private, wanted.private)
    assert (found.shared == 0).all()
    assert ((found.fused - wanted.fused).abs().amax(dim=1) > 1e-4).all()


# the notes' network


def notes_pair(views=3):
    widths = [2 + view for view in range(views)]
    with seeded(0):
        separate = NotesNet(widths, classes=CLASSES, tied=False, hidden=16)
        tied = NotesNet(widths, classes=CLASSES, tied=True, hidden=16)
    kept = {k: v for k, v in separate.state_dict().items() if "collect_shared" not in k}
    missing, unexpected = tied.load_state_dict(kept, strict=False)
    assert all("collect_shared" in name for name in missing)
    assert not unexpected
    return separate, tied


WEIGHTS = {
    "kl_weight": 0.5,
    "conflict_weight": 1.0,
    "sim_weight": 0.8,
    "diff_weight": 0.3,
    "recon_weight": 0.8,
}


@pytest.mark.parametrize("views", [1, 2, 3])
def test_notes_shared_collectors_reach_nothing(views):
    inputs = batch(views)
    target = torch.eye(CLASSES)[torch.arange(ROWS) % CLASSES]
    for net in notes_pair(views):
        notes_loss(net(inputs), target, **WEIGHTS).backward()
        shared = list(net.collect_shared.parameters())
        assert all(one.grad is None or not one.grad.any() for one in shared)
        others = [one for name, one in net.named_parameters() if "collect_shared" not in name]
        assert all(one.grad is not None for one in others)


@pytest.mark.parametrize("training", [True, False])
def test_notes_tied_and_separate_are_one_function(training):
    inputs = batch()
    separate, tied = (net.train(training) for net in notes_pair())
    with seeded(1):
        first = separate(inputs)
    with seeded(1):
        second = tied(inputs)
    assert torch.equal(first.fused, second.fused)
    assert torch.equal(first.private, second.private)
    assert not torch.equal(first.shared, second.shared)


def test_notes_first_opinion_holds_the_sum():
    net, _ = notes_pair()
    net.eval()
    heard = []
    for collector in net.collect_private:
        collector.register_forward_hook(lambda module, args, output: heard.append(output.clone()))
    found = net(batch())
    total = heard[0] + heard[1] + heard[2]
    assert torch.allclose(found.private[:, 0], total)
    assert torch.allclose(found.private[:, 1], heard[1])
    assert torch.allclose(found.private[:, 2], heard[2])
    assert torch.allclose(found.fused, total / 3)


def test_notes_similarity_is_the_pair_sum_over_views():
    net, _ = notes_pair()
    found = net.eval()(batch())
    target = torch.eye(CLASSES)[torch.arange(ROWS) % CLASSES]
    with_it, without = (
        notes_loss(found, target, **(WEIGHTS | {"sim_weight": weight})) for weight in (1.0, 0.0)
    )
    total = 0.0
    for i, j in combinations(range(3), 2):
        x, y = (found.shared_codes[:, v].detach().double().numpy() for v in (i, j))
        gaps = [x.mean(axis=0) - y.mean(axis=0)]
        for k in range(2, 6):
            left, right = ((z - z.mean(axis=0)) ** k for z in (x, y))
            gaps.append(left.mean(axis=0) - right.mean(axis=0))
        total += sum(np.linalg.norm(gap) for gap in gaps)
    assert (with_it - without).item() == pytest.approx(total / 3, rel=1e-4)


# attention


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("mask", ["private", "none"])
def test_private_tokens_do_not_see_other_views(mask, layers):
    net = network(mask=mask, layers=layers)
    inputs = batch()
    with torch.no_grad():
        before = net(inputs)
        for changed in range(3):
            moved = [x + 1.5 * (view == changed) * x.flip(0) for view, x in enumerate(inputs)]
            after = net(moved)
            for view in range(3):
                same = torch.allclose(after.tokens[:, view], before.tokens[:, view], atol=1e-6)
                assert same == (mask == "private" and view != changed)
                kept = torch.allclose(after.private[:, view], before.private[:, view], atol=1e-6)
                assert kept == (mask == "private" and view != changed)
                # shared tokens see every view
                assert not torch.allclose(
                    after.tokens[:, 3 + view], before.tokens[:, 3 + view], atol=1e-6
                )


@pytest.mark.parametrize("mask", ["private", "none"])
def test_rows_do_not_see_each_other(mask):
    net = network(mask=mask)
    inputs = batch()
    whole = net(inputs).fused
    part = net([x[1:3] for x in inputs]).fused
    assert torch.allclose(part, whole[1:3], atol=1e-5)


def test_attention_matches_pytorchs_encoder_layer():
    with seeded(0):
        own = TokenFusion(views=2, hidden=8, heads=2, feedforward=16, mask="none").eval()
    other = nn.TransformerEncoderLayer(8, 2, 16, norm_first=True).eval()
    layer = own.layers[0]
    pairs = {
        other.self_attn.in_proj_weight: layer.queries_keys_values.weight,
        other.self_attn.in_proj_bias: layer.queries_keys_values.bias,
        other.self_attn.out_proj.weight: layer.attended.weight,
        other.self_attn.out_proj.bias: layer.attended.bias,
        other.linear1.weight: layer.widen.weight,
        other.linear1.bias: layer.widen.bias,
        other.linear2.weight: layer.narrow.weight,
        other.linear2.bias: layer.narrow.bias,
    }
    with torch.no_grad():
        for theirs, ours in pairs.items():
            theirs.copy_(ours)
        tokens = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0))
        wanted = nn.functional.layer_norm(other(tokens), (8,))
        assert torch.allclose(own(tokens), wanted, atol=1e-5)


DROPOUTS = ("dropout", "attention_dropout", "encoder_dropout")


@pytest.mark.parametrize("chance", [None, *DROPOUTS])
def test_each_dropout_acts_in_training_only(chance):
    net = network(**{name: 0.5 * (name == chance) for name in DROPOUTS})
    inputs = batch()
    assert torch.equal(net(inputs).fused, net(inputs).fused)
    net.train()
    with seeded(0):
        first, second = net(inputs).fused, net(inputs).fused
    assert torch.equal(first, second) == (chance is None)


# collectors


@given(classes=st.integers(2, 30), scale=st.floats(0.01, 20.0), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_evidence_keeps_shares_and_follows_the_mass_formula(classes, scale, seed):
    rng = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(6, classes, generator=rng, dtype=torch.float64)
    slope, offset = 4 * torch.rand(2, generator=rng, dtype=torch.float64)
    found = shares_to_evidence(logits, slope, offset).numpy()
    for row, evidence in zip(logits.numpy(), found, strict=True):
        shares = np.exp(row - row.max())
        shares /= shares.sum()
        c = (classes * shares.max() - 1) / (classes - 1)
        mass = 2 * classes * c / (c + 0.02) * math.log1p(math.exp(slope * c + offset))
        np.testing.assert_allclose(evidence, mass * shares, rtol=1e-9)


@pytest.mark.parametrize("classes", [2, 5, 200])
@pytest.mark.parametrize("offset", [-2.0, 0.0, 3.0])
def test_mass_starts_at_zero_grows_with_confidence_and_scales_with_classes(classes, offset):
    # K p = 1 + c (K - 1) for confidences c from 0 to almost 1
    c = torch.linspace(0, 0.999, 200, dtype=torch.float64)
    top = (1 + c * (classes - 1)) / classes
    rest = ((1 - top) / (classes - 1)).unsqueeze(1).expand(-1, classes - 1)
    logits = torch.cat([top.unsqueeze(1), rest], dim=1).log()
    slope, level = torch.tensor(5.0), torch.tensor(offset)
    mass = shares_to_evidence(logits, slope, level).sum(dim=1)
    assert mass[0] == pytest.approx(0, abs=1e-9)
    assert (mass.diff() > 0).all()
    # the vacuity K / (mass + K) depends on the confidence only, not on K
    two = torch.stack([(1 + c) / 2, (1 - c) / 2], dim=1).log()
    per_class = shares_to_evidence(two, slope, level).sum(dim=1) / 2
    assert torch.allclose(mass / classes, per_class, atol=1e-8)


def test_uniform_shares_give_no_evidence_whatever_is_learnt():
    zeros = torch.zeros(3, 7)
    found = shares_to_evidence(zeros + 4, torch.tensor(50.0), torch.tensor(50.0))
    assert found.abs().max() < 1e-3


def test_sharing_of_collectors():
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randn(6, ROWS, HIDDEN, generator=rng, dtype=torch.float64)
    sizes = {"views": 3, "hidden": HIDDEN, "classes": CLASSES, "readout": "tokens"}

    def logits(sharing, present=None):
        with seeded(0):
            collect = Collectors(sharing=sharing, kind="softplus", **sizes).double()
        evidence, found, of_tokens = collect(tokens, torch.empty(0), present)
        assert torch.equal(found, of_tokens)
        torch.testing.assert_close(evidence, found.exp().log1p())
        return collect.shared, found[3:]

    part, found = logits("separate")
    for view in range(3):
        wanted = tokens[3 + view] @ part.weight[view] + part.bias[view]
        torch.testing.assert_close(found[view], wanted)
    part, found = logits("tied")
    for view in range(3):
        wanted = tokens[3 + view] @ part.weight[0] + part.bias[0]
        torch.testing.assert_close(found[view], wanted)
    part, found = logits("tied-mean")
    wanted = tokens[3:].mean(dim=0) @ part.weight[0] + part.bias[0]
    torch.testing.assert_close(found[0], wanted)
    present = torch.rand(ROWS, 3, generator=rng) < 0.6
    present[0], present[1] = True, torch.tensor([True, False, True])
    _, found = logits("tied-mean", present)
    for row, here in enumerate(present):
        mean = tokens[3:, row][here].sum(dim=0) / max(int(here.sum()), 1)
        torch.testing.assert_close(found[0, row], mean @ part.weight[0] + part.bias[0, 0])
    assert logits("private")[1].shape == (0, ROWS, CLASSES)


def test_stacked_linear_is_one_linear_per_view():
    layer = StackedLinear(count=3, width=4, outputs=2)
    values = torch.randn(3, 5, 4)
    for view in range(3):
        wanted = nn.functional.linear(values[view], layer.weight[view].T, layer.bias[view, 0])
        assert torch.allclose(layer(values)[view], wanted, atol=1e-6)


def test_rcml_collector_and_network():
    with seeded(0):
        collector = EvidenceCollector([3, 6], classes=CLASSES).eval()
        net = RCMLNet([2, 3], classes=CLASSES, hidden=(6,)).eval()
    x = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0))
    first, _, _, last = collector.layers
    wanted = torch.log1p(torch.exp(last(first(x).clamp_min(0))))
    assert torch.allclose(collector(x), wanted, atol=1e-5)
    found = net(batch(2))
    assert found.private.shape == (ROWS, 2, CLASSES)
    assert found.shared.shape == (ROWS, 0, CLASSES)
    assert torch.allclose(found.fused, found.private.mean(dim=1))


# fusion


@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_view(fusion):
    net = network(1, fusion=fusion, sharing="private")
    inputs = batch(1)
    found = net(inputs)
    if fusion == "mixture":  # shares are floored there
        wanted = torch.stack([row / row.sum() for row in found.private[:, 0]])
        got = torch.stack([row / row.sum() for row in found.fused])
        assert torch.allclose(got, wanted, atol=1e-2)
        assert torch.allclose(found.fused.sum(dim=1), found.private.sum(dim=(1, 2)), rtol=1e-4)
    else:
        assert torch.allclose(found.fused, found.private[:, 0], rtol=1e-3)


@pytest.mark.parametrize("views", [2, 3])
def test_discount_weighs_shared_opinions_by_the_private_ones_agreement(views):
    inputs = batch(views)
    found = network(views, fusion="mean")(inputs)
    plain = network(views, fusion="mean", discount=False)(inputs)
    for row in range(ROWS):
        private, shared = found.private[row], found.shared[row]
        trust = (1 - share_conflict(private)) / views
        wanted = (private.sum(dim=0) + trust * shared.sum(dim=0)) / (views + trust * views)
        assert torch.allclose(found.fused[row], wanted, rtol=1e-4)
        assert torch.allclose(plain.fused[row], torch.cat([private, shared]).mean(dim=0))
