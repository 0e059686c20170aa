"""Methods by name, and options given as text."""

from __future__ import annotations

import pytest

from rcml_misa.estimators import NotesClassifier
from rcml_misa.estimators.foreign import load_object
from rcml_misa.estimators.registry import METHODS, exported_estimators, find_method, recipe
from rcml_misa.exceptions import OptionError


@pytest.mark.parametrize("name", METHODS)
def test_every_method_and_variant_builds(name) -> None:
    spec = find_method(name)
    assert spec.summary
    assert set(spec.compared) <= set(spec.variants)
    for variant in spec.variants:
        made = recipe(name, variant=variant)
        estimator = made.build(11)
        assert estimator.random_state == 11
        assert made.default == (variant == spec.default_variant)
        for key, value in made.params.items():
            assert estimator.get_params()[key] == value
        if spec.variant_parameter is not None:
            assert getattr(estimator, spec.variant_parameter) == variant
    # defaults of the class, but for what makes the method
    plain = recipe(name).build(0).get_params()
    for key, value in type(recipe(name).build(0))().get_params().items():
        if key not in (*spec.params, "random_state", spec.variant_parameter):
            assert plain[key] == value


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: recipe("rcmI-misa"), "no method 'rcmI-misa'.*rcml-misa"),
        (lambda: recipe("rcml", options=["epoch=3"]), "no option 'epoch'.*epochs"),
        (lambda: recipe("rcml", options=["views=3"]), "no option 'views'"),
        (lambda: recipe("rcml", options=["random_state=3"]), "no option 'random_state'"),
        (lambda: recipe("rcml", options=["epochs"]), "no value.*key=value"),
        (lambda: recipe("rcml-misa", preset="note"), "no preset 'note'.*notes"),
        (lambda: recipe("lda", preset="notes"), "lda has no preset 'notes'"),
        (lambda: recipe("rcml-misa", variant="tide"), "no variant 'tide'.*tied"),
        (lambda: recipe("rcml", options=["fusion=pairwize"]), "fusion=pairwize.*pairwise"),
        (lambda: recipe("rcml", options=["scaling=minmx"]), "scaling=minmx.*minmax"),
        (lambda: recipe("rcml", options=["epochs=many"]), "epochs=many is not a int"),
        (lambda: recipe("rcml", options=["epochs=2.5"]), "epochs=2.5"),
        (lambda: recipe("rcml", options=["learning_rate=x"]), "learning_rate=x"),
        (lambda: recipe("rcml", options=["hidden=a,b"]), "hidden=a,b"),
        (lambda: recipe("rcml-misa", options=["conflict_discount=maybe"]), "maybe is not a bool"),
        (lambda: recipe("lda", epochs=3), "lda is not trained in epochs"),
        (lambda: recipe("ridge-expert", epochs=3), "ridge-expert is not trained in epochs"),
        (lambda: recipe("ridge-expert", options=["landmarks=9"]), "no option 'landmarks'"),
        (lambda: recipe("rcml-misa", options=["expert=rigde"]), "expert=rigde.*ridge"),
    ],
)
def test_what_does_not_exist_is_refused(call, match) -> None:
    with pytest.raises(OptionError, match=match):
        call()


def test_sentences_end_once() -> None:
    with pytest.raises(OptionError) as caught:
        recipe("rcml", options=["epoch=3"])
    assert not str(caught.value).endswith("?.")


def test_empty_variant_is_refused() -> None:
    with pytest.raises(OptionError, match="no variant ''"):
        recipe("rcml-misa", variant="")


@pytest.mark.parametrize(
    ("method", "text", "value"),
    [
        ("rcml", "epochs=7", 7),
        ("rcml-misa", "epochs=7", 7),
        ("rcml-misa", "epochs=none", None),
        ("rcml", "learning_rate=1e-2", 0.01),
        ("rcml", "conflict_weight=2", 2.0),
        ("rcml", "hidden=16,8", (16, 8)),
        ("rcml", "hidden=16", (16,)),
        ("rcml", "hidden=", ()),
        ("rcml", "class_weight=balanced", "balanced"),
        ("rcml", "fusion=pairwise", "pairwise"),
        ("rcml", "scaling=none", "none"),
        ("rcml-misa", "expert=none", "none"),
        ("rcml-misa", "expert=ridge", "ridge"),
        ("rcml-misa", "learning_rate=none", None),
        ("rcml-misa", "learning_rate=0.01", 0.01),
        ("rcml-misa", "calibration_fraction=0", 0.0),
        ("rcml-misa", "conflict_discount=False", False),
        ("rcml-misa", "conflict_discount=1", True),
        ("rbf-svm", "C=3", 3.0),
        ("extra-trees", "trees=10", 10),
    ],
)
def test_texts_become_typed_values(method, text, value) -> None:
    found = recipe(method, options=[text]).params[text.partition("=")[0]]
    assert found == value
    assert type(found) is type(value)


def test_later_options_win() -> None:
    assert recipe("rcml", options=["epochs=3", "epochs=4"]).params["epochs"] == 4
    assert recipe("rcml", options=["epochs=3"], epochs=5).params["epochs"] == 5


@pytest.mark.parametrize("method", ["rcml", "lda", "rcml-misa"])
def test_leaky_scaling_is_the_runs(method) -> None:
    made = recipe(method, options=["scaling=paper-leaky"])
    assert made.leaky
    assert not made.default
    assert made.build(0).scaling == "none"
    assert not recipe(method).leaky


def test_variant_can_be_an_option() -> None:
    made = recipe("rcml", options=["fusion=pairwise"])
    assert (made.variant, made.params["fusion"], made.default) == ("pairwise", "pairwise", False)
    assert recipe("rcml", options=["fusion=mean"]).default


def test_default_is_the_unchanged_configuration() -> None:
    assert recipe("rcml-misa").default
    assert recipe("rcml-misa", variant="separate", device="cpu").default
    assert not recipe("rcml-misa", variant="tied").default
    assert not recipe("rcml-misa", options=["dropout=0.3"]).default
    assert not recipe("rcml-misa", epochs=3).default
    assert not recipe("rcml-misa", preset="notes").default


def test_notes_preset() -> None:
    made = recipe("rcml-misa", preset="notes", variant="tied", options=["epochs=2"])
    estimator = made.build(0)
    assert isinstance(estimator, NotesClassifier)
    assert made.leaky
    assert (estimator.scaling, estimator.collectors, estimator.epochs) == ("none", "tied", 2)
    # the leak can be turned off
    clean = recipe("rcml-misa", preset="notes", options=["scaling=minmax"])
    assert not clean.leaky
    assert clean.build(0).scaling == "minmax"


def test_device_reaches_those_who_have_one() -> None:
    assert recipe("rcml", device="cpu").params["device"] == "cpu"
    assert "device" not in recipe("lda", device="cpu").params


def test_methods_list_every_exported_estimator() -> None:
    paths = {path for spec in METHODS.values() for path in (spec.path, spec.regressor) if path}
    paths |= {path for spec in METHODS.values() for path, _ in spec.presets.values()}
    exported = exported_estimators()
    assert {load_object(path) for path in paths} == {*exported.values()} - {
        exported["KernelExpert"]
    }
