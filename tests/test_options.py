"""Options: whatever makes no sense is refused in one sentence, and docstrings name each choice."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from contextlib import suppress
from inspect import isclass, isfunction
from typing import get_type_hints

import numpy as np
import pytest
from sklearn.base import is_classifier

import rcml_misa
from rcml_misa import estimators
from rcml_misa.estimators import KernelExpert, RCMLClassifier, RCMLMISAClassifier
from rcml_misa.estimators.registry import METHODS, exported_estimators
from rcml_misa.exceptions import OptionError, RcmlMisaError
from rcml_misa.options import check_options, choices_of

KINDS = exported_estimators()
PARAMETERS = [
    (name, parameter)
    for name, kind in KINDS.items()
    for parameter in inspect.signature(kind).parameters
]
# wrong types, and numbers that no option of any estimator takes; True is no number
ABSURD = ("no such value", object(), -1, -0.5, float("nan"), float("inf"), [], (), ("a",), {"a": 1})
# values among them that a parameter takes
TAKEN = {"hidden": [()], "class_weight": [{"a": 1}]}


def table():
    X = np.random.default_rng(0).normal(size=(24, 4))
    return X, np.repeat(["a", "b"], 12), np.arange(24.0)


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS, ids=str)
def test_absurd_values_are_refused_at_fit_in_one_sentence(name, parameter):
    kind = KINDS[name]
    X, labels, numbers = table()
    y = labels if is_classifier(kind()) else numbers
    choices = choices_of(get_type_hints(kind.__init__)[parameter])
    flag = get_type_hints(kind.__init__)[parameter] is bool
    for value in (*ABSURD, *(() if flag else (True,)), *((3,) if choices else ())):
        if parameter == "text_encoder" and isinstance(value, str):
            continue  # the name of a folder or of a model on the hub
        if value in TAKEN.get(parameter, ()) and not isinstance(
            kind().get_params()[parameter], int
        ):
            continue
        with pytest.raises(RcmlMisaError) as caught:
            kind(**{parameter: value}).fit(X, y)
        sentence = str(caught.value)
        assert "\n" not in sentence
        assert len(sentence) <= 300, sentence
        assert parameter in sentence or parameter == "views", sentence


@pytest.mark.parametrize(
    ("estimator", "sentence"),
    [
        (KernelExpert(cap=5), "cap=5 is not a finite number of 0 or more and up to 1; the nearest"),
        (
            KernelExpert(penalties=()),
            r"penalties=\(\) is not a tuple of one or more finite",
        ),
        (KernelExpert(penalties=(1.0, 0.0)), r"penalties=\(1.0, 0.0\) is not a tuple of finite"),
        (KernelExpert(groups=(9,)), r"groups=\(9,\) add up to 9 columns but X has 4; give widths"),
        (
            KernelExpert(selection_landmarks=0),
            "selection_landmarks=0 is not .* nearest is 1",
        ),
        (RCMLMISAClassifier(stacking="no"), "stacking='no' is not True or False; the default is"),
        (RCMLMISAClassifier(epochs=2.6), "epochs=2.6 is not a whole number .*; the nearest is 3"),
        (RCMLMISAClassifier(dropout=1), "dropout=1 is not .* below 1; the default is 0.0"),
        (RCMLClassifier(hidden=(5, 0)), r"hidden=\(5, 0\) is not a tuple of whole numbers of 1"),
    ],
    ids=str,
)
def test_the_sentence_has_value_limit_and_a_valid_value(estimator, sentence):
    X, y, _ = table()
    with pytest.raises(OptionError, match=sentence):
        estimator.fit(X, y)


def test_every_default_and_every_method_passes():
    for kind in KINDS.values():
        check_options(kind())
    for spec in METHODS.values():
        for variant in spec.variants if spec.variant_parameter else ():
            check_options(KINDS[spec.path.partition(":")[2]](**{spec.variant_parameter: variant}))


def documented(kind, parameter):
    """Values that a class lists for a parameter, or the estimators that it refers to."""
    text = inspect.getdoc(kind)
    classes = (getattr(estimators, name) for name in estimators.__all__)
    others = [inspect.getdoc(other) for other in classes if f"`{other.__name__}`" in text]
    for source in (text, *others):
        listed = re.search(rf"^{parameter} : {{([^}}]*)}}", source, re.MULTILINE)
        if listed:
            return re.findall(r'"([^"]*)"', listed[1])
    return None


@pytest.mark.parametrize("name", KINDS)
def test_docstrings_name_every_choice(name):
    kind = KINDS[name]
    for parameter, hint in get_type_hints(kind.__init__).items():
        if choices := choices_of(hint):
            assert sorted(documented(kind, parameter) or ()) == sorted(choices), parameter


def public_callables():
    """Classes and functions of the package with their annotations, by their full names."""
    for module in pkgutil.walk_packages(rcml_misa.__path__, "rcml_misa."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            here = getattr(value, "__module__", None) == module.name and not name.startswith("_")
            if here and (isclass(value) or isfunction(value)):
                with suppress(NameError):  # a type that is imported for type checkers alone
                    hints = get_type_hints(value.__init__ if isclass(value) else value)
                    yield f"{module.name}.{name}", inspect.getdoc(value) or "", hints


def test_values_that_any_docstring_lists_are_those_of_the_annotation():
    checked = 0
    for name, text, hints in public_callables():
        for parameter, hint in hints.items():
            pattern = rf"^(?:\w+, )*{parameter}(?:, \w+)* : {{([^}}]*)}}"
            listed = re.search(pattern, text, re.MULTILINE)
            if listed and (choices := choices_of(hint)):
                checked += 1
                values = re.findall(r'"([^"]*)"', listed[1])
                assert sorted(values) == sorted(choices), f"{name}: {parameter}"
    assert checked > 30
