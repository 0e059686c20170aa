"""The training loop: schedule, batches, history, errors, seeds."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.exceptions import OptionError
from rcml_misa.training import (
    Optimisation,
    bucketed_batches,
    permuted_batches,
    pick_device,
    seeded,
    train,
)


class Point(nn.Module):
    """Two parameters: a matrix and a vector called slope."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 3), 2.0))
        self.slope = nn.Parameter(torch.full((3,), -2.0))


def quadratic(point):
    """A bowl with its minimum at weight 1, slope 0."""

    def loss(rows, done):
        value = (point.weight - 1).square().sum() + point.slope.square().sum()
        return {"loss": value, "half": value.detach() / 2}

    return loss


def descend(module, loss, *, rows, size=4, seed=0, validate=None, callback=None, **options):
    rng = np.random.default_rng(seed)
    return train(
        module,
        loss,
        batches=lambda: permuted_batches(rows, size, rng),
        settings=Optimisation(**options),
        validate=validate,
        callback=callback,
    )


def run(*, rows=10, loss=None, **options):
    point = Point()
    options = {"steps": 60, "learning_rate": 0.1} | options
    return point, descend(point, loss or quadratic(point), rows=rows, **options)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 55, 200])
def test_cosine_schedule_warms_up_then_falls_to_zero(steps):
    how = Optimisation(steps=steps)
    rates = [how.rate(step) for step in range(steps)]
    warm = max(steps // 10, 1)
    assert rates[:warm] == pytest.approx([(step + 1) / warm for step in range(warm)])
    assert rates[warm - 1] == 1
    assert rates[warm - 1 :] == sorted(rates[warm - 1 :], reverse=True)
    if steps > warm:
        assert rates[-1] == pytest.approx(0, abs=1e-12)
        middle = [
            0.5 + 0.5 * math.cos(math.pi * k / (steps - warm)) for k in range(1, steps - warm + 1)
        ]
        assert rates[warm:] == pytest.approx(middle)
    assert how.rate(steps) >= 0  # the scheduler asks once more than there are steps


def test_cosine_schedule_without_a_warm_up_is_that_of_torch():
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=50)
    how = Optimisation(steps=50, warmup=False)
    for step in range(51):
        assert how.rate(step) == pytest.approx(annealing.get_last_lr()[0], abs=1e-9)
        optimiser.step()
        annealing.step()
    assert Optimisation(steps=50, warmup=False, schedule="constant").rate(49) == 1


def test_constant_schedule():
    assert {Optimisation(steps=20, schedule="constant").rate(step) for step in range(20)} == {1.0}


def test_training_descends_and_ends_in_evaluation_mode():
    point, history = run(weight_decay=0.0)
    assert not point.training
    assert history["loss"][-1] < 0.05 * history["loss"][0]
    assert history["half"] == pytest.approx([value / 2 for value in history["loss"]])


@given(rows=st.integers(1, 40), size=st.integers(1, 15))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_each_epoch_sees_each_row_once_in_even_batches(rows, size):
    point, seen, shares = Point(), [], []

    def loss(batch, done):
        seen.append(batch.tolist())
        shares.append(done)
        return {"loss": point.weight.sum()}

    per_epoch = math.ceil(rows / size)
    history = descend(point, loss, rows=rows, size=size, steps=3 * per_epoch)
    assert len(history["loss"]) == 3
    for epoch in range(3):
        batches = seen[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(chain(*batches)) == list(range(rows))
        sizes = [len(batch) for batch in batches]
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1
    assert shares == [step / (3 * per_epoch) for step in range(3 * per_epoch)]


def test_history_is_the_mean_of_each_epoch_and_the_callback_hears_of_it():
    numbers, told = iter(range(100)), []
    point = Point()

    def loss(rows, done):
        return {"loss": 0 * point.weight.sum() + next(numbers)}

    # 3 batches an epoch, the last epoch cut short after one
    history = descend(point, loss, rows=10, steps=7, callback=told.append)
    assert history == {"loss": [1.0, 4.0, 6.0]}
    assert [(one.epoch, one.epochs, one.loss) for one in told] == [
        (1, 3, 1.0),
        (2, 3, 4.0),
        (3, 3, 6.0),
    ]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused(bad):
    point = Point()
    with pytest.raises(OptionError, match=r"the loss became (nan|inf) .*learning_rate=0.1; lower"):
        run(loss=lambda rows, done: {"loss": point.weight.sum() * bad})


def test_divergence_is_refused():
    point = Point()
    options = {"steps": 50, "learning_rate": 1e30, "schedule": "constant"}
    with pytest.raises(OptionError, match="lower it"):
        descend(point, quadratic(point), rows=4, **options)


def test_same_seed_same_result():
    def go(seed):
        point = Point()

        def loss(rows, done):
            return {"loss": (point.weight.sum() - float(rows.mean())).square()}

        history = descend(point, loss, rows=10, size=3, seed=seed, steps=12, learning_rate=0.1)
        return point.weight.detach(), history

    (first, told), (second, again), (other, _) = go(0), go(0), go(1)
    assert torch.equal(first, second)
    assert told == again
    assert not torch.equal(first, other)


def test_first_step_follows_adam():
    # Adam's first step is the learning rate times the gradient's sign, times the schedule's 1
    point, _ = run(steps=1, weight_decay=0.0, schedule="constant", fast=("slope",))
    assert torch.allclose(point.weight, torch.full((2, 3), 2.0 - 0.1), atol=1e-5)
    assert torch.allclose(point.slope, torch.full((3,), -2.0 + 1.0), atol=1e-5)  # ten times


def test_decay_is_decoupled_and_spares_vectors():
    zero = Point()
    descend(
        zero,
        lambda rows, done: {"loss": 0 * (zero.weight.sum() + zero.slope.sum())},
        rows=4,
        steps=1,
        learning_rate=0.1,
        weight_decay=0.5,
        schedule="constant",
    )
    assert torch.allclose(zero.weight, torch.full((2, 3), 2.0 * (1 - 0.1 * 0.5)))
    assert torch.equal(zero.slope, torch.full((3,), -2.0))


def test_coupled_decay_enters_the_gradient_of_everything():
    point = Point()
    descend(
        point,
        lambda rows, done: {"loss": 0 * (point.weight.sum() + point.slope.sum())},
        rows=4,
        steps=1,
        learning_rate=0.1,
        weight_decay=0.5,
        schedule="constant",
        decoupled=False,
    )
    assert torch.allclose(point.weight, torch.full((2, 3), 1.9), atol=1e-5)
    assert torch.allclose(point.slope, torch.full((3,), -1.9), atol=1e-5)


def test_the_best_epoch_is_kept_and_training_ends_after_patience():
    module = torch.nn.Linear(1, 1, bias=False)
    told = iter([3.0, 1.0, 2.0, 2.0, 0.0])
    seen = []

    def validate():
        seen.append(module.weight.item())
        assert not module.training
        return {"validation": next(told)}

    def loss(rows, done):
        return {"loss": module.weight.sum()}  # falls for ever

    history = descend(module, loss, rows=4, steps=50, validate=validate, patience=2)
    assert history["validation"] == [3.0, 1.0, 2.0, 2.0]
    assert len(history["loss"]) == 4
    assert module.weight.item() == seen[1]


def test_first_number_of_validation_selects_the_epoch():
    module = torch.nn.Linear(1, 1, bias=False)
    losses = iter([3.0, 1.0, 2.0, 2.0, 2.0])
    weights = []

    def evaluate():
        weights.append(float(module.weight.detach()))
        return {"valid loss": next(losses)}

    history = train(
        module,
        lambda rows, done: {"loss": module(torch.ones(len(rows), 1)).sum()},
        batches=lambda: [np.arange(2)] * 3,
        settings=Optimisation(epochs=9, learning_rate=0.1, patience=3),
        validate=evaluate,
    )
    assert len(history["loss"]) == 5  # the third epoch without a better one ends it
    assert float(module.weight.detach()) == weights[1]
    assert not module.training


def test_accumulated_batches_are_one_large_batch():
    x, y = torch.randn(8, 3), torch.randn(8, 1)
    ends = []
    for sizes, accumulate in (([8], 1), ([4, 4], 2)):
        torch.manual_seed(0)
        module = torch.nn.Linear(3, 1)
        parts = np.split(np.arange(8), np.cumsum(sizes)[:-1])
        train(
            module,
            lambda rows, done, module=module: {"loss": F.mse_loss(module(x[rows]), y[rows])},
            batches=lambda parts=parts: parts,
            settings=Optimisation(epochs=3, learning_rate=0.1, accumulate=accumulate, clip=0.1),
        )
        ends.append(module.weight.detach())
    torch.testing.assert_close(*ends)


def test_averaged_weights_are_what_is_kept():
    module = torch.nn.Linear(1, 1, bias=False)
    seen = []
    train(
        module,
        lambda rows, done: {"loss": module(torch.ones(1, 1)).sum()},
        batches=lambda: [np.arange(1)] * 4,
        settings=Optimisation(epochs=2, learning_rate=0.1, averaging=0.5, schedule="constant"),
        callback=lambda _: seen.append(float(module.weight.detach())),
    )
    assert float(module.weight.detach()) == seen[-1]
    assert seen[1] < seen[0]


def test_bucketed_batches_hold_like_lengths():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, 1000)
    batches = bucketed_batches(lengths, 16, rng)
    assert sorted(np.concatenate(batches)) == list(range(1000))
    padded = sum(lengths[rows].max() * len(rows) for rows in batches)
    assert padded < 1.2 * lengths.sum()
    assert max(map(len, batches)) <= 16


def test_without_validation_training_goes_on_to_its_end():
    _, history = run(steps=None, epochs=6, patience=1)
    assert len(history["loss"]) == 6


def test_steps_and_epochs_are_two_names_of_one_length():
    (by_steps, first), (by_epochs, second) = run(steps=9), run(steps=None, epochs=3)
    assert torch.equal(by_steps.weight, by_epochs.weight)
    assert first["loss"] == pytest.approx(second["loss"])
    for length in ({"steps": None}, {"epochs": 3}):
        with pytest.raises(OptionError, match="give exactly one of the two"):
            run(**length)


def test_slow_parameters_have_a_rate_of_their_own():
    point, _ = run(steps=1, weight_decay=0.0, schedule="constant", slow=("weight",), slow_rate=0.01)
    assert torch.allclose(point.weight, torch.full((2, 3), 2.0 - 0.01), atol=1e-5)
    assert torch.allclose(point.slope, torch.full((3,), -2.0 + 0.1), atol=1e-5)


def test_seeded_restores_the_global_state():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with seeded(3):
        first = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    with seeded(3):
        assert torch.equal(torch.rand(4), first)
    with seeded(4):
        assert not torch.equal(torch.rand(4), first)


def test_seeded_restores_the_state_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(3):  # noqa: PT012
        torch.rand(1)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(OptionError, match="device='tpu' is not one of auto, cpu, cuda"):
        pick_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is present")
def test_absent_cuda_is_refused():
    with pytest.raises(OptionError, match="no usable CUDA device"):
        pick_device("cuda")
