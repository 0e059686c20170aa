"""No method touches test rows: garbage in them changes neither the model nor its answers."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rcml_misa.datasets import Dataset
from rcml_misa.estimators.registry import METHODS, Recipe, recipe
from rcml_misa.protocols import Protocol, spawn_seeds, split_rows
from rcml_misa.runs.single import FittedTask, fit_task
from rcml_misa.runs.tasks import Task
from rcml_misa.views import MultiView

ROWS, CLASSES, SEED = 90, 3, 4
# what makes a method small enough, where it has such an option
SMALL = {"epochs": 2, "landmarks": 20, "trees": 5, "rounds": 3, "batch_size": 40}


def data() -> Dataset:
    rng = np.random.default_rng(0)
    target = np.arange(ROWS) % CLASSES
    views = MultiView([rng.normal(size=(ROWS, width)) + target[:, None] * 0.8 for width in (3, 4)])
    return Dataset("toy", views, target, ("a", "b", "c"), "00" * 32, "made here")


def with_garbage(clean: Dataset, rows: np.ndarray) -> Dataset:
    """The same set with test rows far out of range, and test labels shuffled."""
    rng = np.random.default_rng(1)
    arrays = [array.copy() for array in clean.views.arrays]
    for array in arrays:
        array[rows] = 1e3 * rng.normal(size=(len(rows), array.shape[1]))
    target = clean.target.copy()
    target[rows] = rng.permutation((target[rows] + 1) % CLASSES)
    return replace(clean, views=MultiView(arrays), target=target)


def small(name: str, *options: str) -> Recipe:
    known = inspect.signature(type(recipe(name).build(0))).parameters
    given = [f"{key}={value}" for key, value in SMALL.items() if key in known]
    device = "cpu" if "device" in known else None
    return recipe(name, options=[*given, *options], device=device)


def both(made: Recipe, protocol: Protocol) -> tuple[FittedTask, FittedTask]:
    clean = data()
    _, test = split_rows(ROWS, rng=np.random.default_rng(spawn_seeds(SEED).split))
    task = Task(made, 0, 0, SEED, protocol)
    return fit_task(clean, task), fit_task(with_garbage(clean, test), task)


def bits(thing: Any) -> list[bytes]:
    """Everything that a fitted estimator holds, as bytes; torch pickles storages by their place."""
    if isinstance(thing, torch.nn.Module):
        return bits(dict(thing.state_dict()))
    if isinstance(thing, torch.Tensor):
        return bits(thing.detach().numpy())
    if isinstance(thing, np.ndarray) and thing.dtype != object:
        return [str((thing.dtype, thing.shape)).encode(), thing.tobytes()]
    if isinstance(thing, Mapping):
        return [part for key in thing for part in (str(key).encode(), *bits(thing[key]))]
    if isinstance(thing, list | tuple):
        return [part for one in thing for part in bits(one)]
    made = type(thing).__module__.startswith("rcml_misa")  # such objects may hold tensors
    if made or (hasattr(thing, "__dict__") and not inspect.isclass(thing) and not callable(thing)):
        return bits(vars(thing))
    return [pickle.dumps(thing)]


def changed(one: FittedTask, two: FittedTask) -> bool:
    """Whether anything of the fitted model, or its answers about train rows, differs."""
    np.testing.assert_array_equal(one.part.train, two.part.train)
    train = one.dataset.views.take(one.part.train)
    answers = [fitted.ask(train) for fitted in (one, two)]
    same = all(
        np.array_equal(getattr(answers[0], name), getattr(answers[1], name))
        for name in ("predicted", "probability", "uncertainty")
    )
    return not same or bits(one.estimator) != bits(two.estimator)


@pytest.mark.parametrize("name", METHODS)
def test_garbage_in_test_rows_changes_nothing(name):
    assert not changed(*both(small(name), Protocol()))


@pytest.mark.parametrize("expert", ["ridge", "none"])
def test_nor_with_other_members_or_none(expert):
    one, two = both(small("rcml-misa", f"expert={expert}"), Protocol())
    # rows were set apart, from the train rows
    assert one.estimator.share_ == two.estimator.share_
    assert one.estimator.calibrator_ is not None
    assert not changed(one, two)


@pytest.mark.parametrize("name", ["rcml", "fuml", "rcml-misa"])
def test_nor_where_an_epoch_is_chosen_on_rows_held_back(name):
    protocol = Protocol(valid_share=0.2, selection="best-valid", label_noise=0.1, imbalance=0.5)
    one, two = both(small(name), protocol)
    assert one.watcher.chosen["valid"] == 2
    assert not changed(one, two)


def test_checkpoints_look_and_do_not_touch():
    plain, _ = both(small("rcml"), Protocol())
    looked, _ = both(small("rcml"), Protocol(checkpoints=(1, 2)))
    assert set(looked.watcher.checkpoints) == {"1", "2"}
    assert not changed(plain, looked)


def test_the_ways_that_leak_are_seen_to_leak():
    assert changed(*both(small("rcml", "scaling=paper-leaky"), Protocol()))
    assert changed(*both(recipe("rcml-misa", preset="notes", epochs=2, device="cpu"), Protocol()))
    one, two = both(small("rcml"), Protocol(selection="best-test-epoch"))
    assert set(one.watcher.chosen) == {"clean", "conflict"}
    assert one.task.protocol.leaky
    assert two.task.protocol.leaky
