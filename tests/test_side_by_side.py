"""Networks trained side by side: one stacked pass against each network by itself, in float64."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from rcml_misa.estimators.outputs import evidential_terms, subspace_terms
from rcml_misa.nn.encoders import TableEncoder
from rcml_misa.nn.layers import BatchNorm
from rcml_misa.nn.networks import RCMLMISANet
from rcml_misa.nn.side_by_side import SideBySide

WIDTHS, CLASSES, ROWS, NETWORKS = (3, 5, 4), 4, 7, 3


def networks(**options):
    """Networks whose weights differ, without chance."""
    made = []
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        network = RCMLMISANet(
            [TableEncoder(width) for width in WIDTHS],
            classes=CLASSES,
            hidden=8,
            encoder_width=6,
            feedforward=10,
            **{"encoder_dropout": 0.0, "attention_dropout": 0.0, **options},
        ).double()
        for parameter in network.parameters():  # those that start alike too
            parameter.data += 0.1 * torch.randn_like(parameter)
        made.append(network.train())
    return made


def batches(gaps):
    rng = np.random.default_rng(0)
    shape = (NETWORKS, ROWS)
    views = [torch.from_numpy(rng.normal(size=(*shape, width))) for width in WIDTHS]
    codes = torch.from_numpy(rng.integers(CLASSES, size=shape))
    present = None
    if gaps:
        present = torch.from_numpy(rng.random((*shape, len(WIDTHS))) < 0.7)
        present[..., 0] = True
    return views, F.one_hot(codes, CLASSES).double(), present, torch.from_numpy(rng.random(shape))


def total(output, target, weight):
    terms = {
        **evidential_terms(output, target, kl_weight=0.1, weight=weight),
        **subspace_terms(output, weight=weight),
    }
    return sum((place + 1) * value for place, value in enumerate(terms.values()))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sharing": "tied", "collector": "softplus", "mask": "none"},
        {"sharing": "tied-mean", "layers": 2, "fusion": "cumulative"},
        {"sharing": "private", "readout": "tokens", "subspace_gradient": "encoders"},
        {"readout": "encoders", "encoder_depth": 1, "fusion": "geometric"},
    ],
)
def test_a_stacked_pass_has_the_losses_and_gradients_of_each_network(options, gaps, weighted):
    alone = networks(**options)
    stacked = SideBySide(deepcopy(alone)).train()
    views, target, present, weight = batches(gaps)
    weight = weight if weighted else None
    losses = []
    for place, network in enumerate(alone):
        here = None if present is None else present[place]
        own = None if weight is None else weight[place]
        losses.append(total(network([view[place] for view in views], here), target[place], own))
    mean = torch.stack(losses).mean()
    mean.backward()
    found = total(stacked(views, present), target, weight)
    found.backward()
    torch.testing.assert_close(found, mean)
    for name, _ in alone[0].named_parameters():
        each = [dict(network.named_parameters())[name].grad for network in alone]
        gradient = getattr(stacked, name.replace(".", "_")).grad
        if each[0] is None:
            assert gradient is None or not gradient.any()
            continue
        torch.testing.assert_close(gradient, torch.stack(each), msg=name)
    for name, _ in alone[0].named_buffers():  # running statistics of batches
        each = [dict(network.named_buffers())[name] for network in alone]
        if hasattr(stacked, name.replace(".", "_")):
            torch.testing.assert_close(getattr(stacked, name.replace(".", "_")), torch.stack(each))


def test_networks_follow_the_stacked_parameters_until_they_are_released():
    own = networks()
    stacked = SideBySide(own)
    weight = own[1].encode.first[2].weight
    with torch.no_grad():
        stacked.encode_first_2_weight[1] += 1
    torch.testing.assert_close(weight, stacked.encode_first_2_weight[1])
    views, _, _, _ = batches(gaps=False)
    stacked.eval()
    outputs = stacked(views)
    for place, network in enumerate(own):
        alone = [view[place] for view in views]
        for output in (network(alone), stacked.run(place, alone)):
            torch.testing.assert_close(outputs.fused[place], output.fused)
    stacked.release()
    with torch.no_grad():
        stacked.encode_first_2_weight += 1
    assert (weight != stacked.encode_first_2_weight[1]).all()
    assert weight.untyped_storage().nbytes() == weight.numel() * weight.element_size()


def test_normalised_cut_and_dropped_columns_are_those_of_torch():
    torch.manual_seed(0)
    values = torch.randn(2, 9, 5, dtype=torch.float64, requires_grad=True)
    norm = BatchNorm(2 * 5).double().train()
    norm.weight.data, norm.bias.data = torch.rand(10).double(), torch.randn(10).double()
    wide = values.detach().transpose(0, 1).flatten(1).requires_grad_()
    weight, bias = (part.detach().clone().requires_grad_() for part in (norm.weight, norm.bias))
    mean, variance = torch.zeros(10).double(), torch.ones(10).double()
    torch.manual_seed(1)
    found = norm(values, 0.4)
    torch.manual_seed(1)
    stays = torch.rand_like(wide) >= 0.4
    wanted = F.batch_norm(wide, mean, variance, weight, bias, training=True).relu() * stays / 0.6
    torch.testing.assert_close(found.transpose(0, 1).flatten(1), wanted)
    pull = torch.randn_like(wanted)
    (wanted * pull).sum().backward()
    (found.transpose(0, 1).flatten(1) * pull).sum().backward()
    torch.testing.assert_close(values.grad.transpose(0, 1).flatten(1), wide.grad)
    torch.testing.assert_close(norm.weight.grad, weight.grad)
    torch.testing.assert_close(norm.bias.grad, bias.grad)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    norm.eval()
    wanted = F.batch_norm(wide, mean, variance, weight, bias).relu()
    torch.testing.assert_close(norm(values).transpose(0, 1).flatten(1), wanted)
