"""The cases of estimators: each method and variant, fitted on a toy in well under a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import rcml_misa
from rcml_misa import estimators

from . import toys
from .prints import imprint, one_thread

Case = Callable[[], dict[str, Any]]
PRETRAINED = "pretrained text: MISARegressor"  # needs the extra `text`
MODELS = Path(__file__).parent / "models"

# what makes a fit short; each estimator takes those that it has
SMALL = {
    "epochs": 4,
    "batch_size": 20,
    "hidden": 8,
    "encoder_width": 8,
    "feedforward": 12,
    "sequence_hidden": 4,
    "landmarks": 30,
    "annealing_epochs": 3,
    "trees": 10,
    "rounds": 5,
    "patience": 2,
    "layers": 1,
    "text_encoder": "words",
    "device": "cpu",
}


def listed() -> Iterator[tuple[str, Callable[[], Any], bool]]:
    """Every method and variant by name, a way to make it, and whether it predicts scores.

    The only place that knows how the registry lists methods.
    """
    from rcml_misa.estimators.registry import METHODS, recipe

    for name, spec in METHODS.items():
        for regression in (False, True) if spec.regressor else (False,):
            for variant in spec.variants:
                make = partial(recipe, name, variant=variant, regression=regression)
                kind = "score" if regression else "classes"
                yield f"{name} {variant} {kind}", lambda make=make: make().build(0), regression
    yield "rcml-misa notes", lambda: recipe("rcml-misa", preset="notes").build(0), False


def small(estimator: Any, **changes: Any) -> Any:
    """Set what makes a fit short, then the changes."""
    known = estimator.get_params(deep=False)
    wanted = {
        name: value
        for name, value in SMALL.items()
        if name in known and not (name == "hidden" and isinstance(known[name], tuple))
    }
    return estimator.set_params(**(wanted | {"random_state": 3} | changes))


def fitted(make: Callable[[], Any], toy: toys.Toy, *, regression: bool, **how: Any) -> Any:
    """Fit a short version; `weighted` and `validation` go to fit, the rest are parameters."""
    options = {}
    if how.pop("weighted", False):
        options["sample_weight"] = toy.weights
    if how.pop("validated", False):
        rows = slice(0, 20)
        options["validation"] = (toy.train.take(range(20)), toy.target(regression=regression)[rows])
    return small(make(), **how).fit(toy.train, toy.target(regression=regression), **options)


def _fit_case(
    make: Callable[[], Any], toy: Callable[[], toys.Toy], *, regression: bool = False, **how: Any
) -> dict[str, Any]:
    with one_thread():
        data = toy()
        return imprint(fitted(make, data, regression=regression, **how), data.new)


# estimator -> what is changed in it, one case each
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "RCMLMISAClassifier": [
        {"expert": "none"},
        {"expert": "ridge"},
        {"expert": "ridge", "weighted": True},
        {"expert": "none", "collector": "softplus", "fusion": "mean"},
        *({"expert": "none", "readout": one} for one in ("tokens", "encoders")),
        {"expert": "none", "subspace_gradient": "encoders"},
        *({"fusion": one} for one in ("geometric", "pairwise", "cumulative", "dempster")),
        *({"expert": "none", "features": one} for one in ("root", "plain", "quantile")),
        *({"scaling": one} for one in ("standard", "quantile", "none")),
        *({"kernel": one} for one in ("smooth", "medium", "rough", "fine")),
        {"expert": "none", "attention_mask": "none"},
        {"stacking": False},
        {"calibration_fraction": 0.0},
        {"fusion": "mean"},
        {"fusion": "mean", "conflict_discount": False},
        {"precision": "bfloat16"},
        {"expert": "none", "mixup": 1.0},
        {"expert": "none", "layers": 2, "heads": 4},
        {"expert": "none", "encoder_depth": 3, "encoder_dropout": 0.0},
        {"weighted": True},
        {"class_weight": "balanced", "weighted": True},
        {"early_stopping": True, "validation_fraction": 0.2},
        {"sim_weight": 0.0, "diff_weight": 0.0, "recon_weight": 0.0, "conflict_weight": 0.0},
    ],
    "RCMLClassifier": [
        {"hidden": (6,)},
        {"weighted": True, "class_weight": "balanced"},
        {"early_stopping": True, "validation_fraction": 0.2},
    ],
    "KernelExpertClassifier": [{"stacking": False}, {"weighted": True}, {"kernel": "rough"}],
    "RidgeExpertClassifier": [{"stacking": False}, {"weighted": True}],
    "EDLClassifier": [{"hidden": (6,), "weighted": True}],
    "TMCClassifier": [{"hidden": (6,), "weighted": True}],
    "ETMCClassifier": [{"hidden": (6,), "weighted": True}],
    "CCMLClassifier": [{"weighted": True}],
    "FUMLClassifier": [{"layers": 2, "weighted": True}],
    "NotesClassifier": [{"collectors": "tied", "weighted": True}],
    "ControlClassifier": [
        {"model": "lda", "features": "quantile"},
        {"model": "extra-trees", "weighted": True},
    ],
    "MISAClassifier": [
        {"similarity": "adversarial"},
        {"schedule": "constant", "averaging": 0.0, "skip": False},
        {"shared_private_weight": 0.2, "view_dropout": 0.2, "own_weight": 0.0},
        {"update_epochs": 2, "clip": 0.1},
        {"precision": "bfloat16"},
        {"validated": True},
    ],
    "MISARegressor": [
        {"similarity": "adversarial", "task_loss": "mse"},
        {"task_loss": "mae", "validation_share": 0.3},
        {"validated": True},
    ],
    "RCMLMISARegressor": [
        {"penalty_form": "amini", "coverage": 0.8},
        {"point_weight": 0.0, "evidence_penalty": 0.1, "attention_mask": "none"},
        {"validated": True},
    ],
}
READERS = ("RCMLMISAClassifier", "RCMLMISARegressor", "MISAClassifier", "MISARegressor")
SEQUENCE_ENCODERS = ("gru", "transformer", "mean", "max", "attention")
LACKING = (
    "RCMLMISAClassifier",
    "RCMLMISARegressor",
    "MISAClassifier",
    "MISARegressor",
    "KernelExpertClassifier",
    "RidgeExpertClassifier",
    "RCMLClassifier",
    "TMCClassifier",
    "ETMCClassifier",
    "CCMLClassifier",
    "EDLClassifier",
    "FUMLClassifier",
    "ControlClassifier",
)


def _told(changes: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in changes.items())


def _one(kind: str, toy: Callable[[], toys.Toy], **how: Any) -> Case:
    make = getattr(estimators, kind)
    return partial(_fit_case, make, toy, regression=kind.endswith("Regressor"), **how)


def _labels_case() -> dict[str, Any]:
    """Labels that are text, one table cut into views, and new rows as one table."""
    with one_thread():
        data = toys.table_toy()
        widths = list(toys.WIDTHS.values())
        model = small(estimators.RCMLMISAClassifier(views=widths), epochs=2)
        labels = [("low", "middle", "high")[one] for one in data.classes]
        return imprint(model.fit(data.train.to_array(), labels), data.new.to_array())


def fit_cases() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for name, make, regression in listed():
        cases[f"method: {name}"] = partial(_fit_case, make, toys.table_toy, regression=regression)
    for kind, rows in OPTIONS.items():
        for changes in rows:
            cases[f"option: {kind} {_told(changes)}"] = _one(kind, toys.table_toy, **changes)
    for kind in LACKING:
        cases[f"missing views: {kind}"] = _one(kind, toys.missing_toy)
    for kind in READERS:
        cases[f"sequence: {kind}"] = _one(kind, toys.sequence_toy)
        cases[f"text: {kind}"] = _one(kind, toys.text_toy)
    for encoder in SEQUENCE_ENCODERS:
        cases[f"sequence: MISARegressor {encoder}"] = _one(
            "MISARegressor", toys.sequence_toy, sequence_encoder=encoder
        )
    cases["labels of text, views by widths"] = _labels_case
    cases[PRETRAINED] = _one(
        "MISARegressor", toys.text_toy, text_encoder="minilm", text_layers=1, epochs=1
    )
    return cases


# file of a model -> class, toy, what is changed
SAVED: dict[str, tuple[str, Callable[[], toys.Toy], dict[str, Any]]] = {
    "rcml-misa": ("RCMLMISAClassifier", toys.table_toy, {}),
    "rcml-misa-tied": ("RCMLMISAClassifier", toys.table_toy, {"collectors": "tied"}),
    "rcml-misa-no-expert": ("RCMLMISAClassifier", toys.table_toy, {"expert": "none"}),
    "rcml-misa-missing": ("RCMLMISAClassifier", toys.missing_toy, {}),
    "rcml-misa-ridge": ("RCMLMISAClassifier", toys.table_toy, {"expert": "ridge"}),
    "ridge-expert": ("RidgeExpertClassifier", toys.table_toy, {}),
    "kernel-expert": ("KernelExpertClassifier", toys.table_toy, {}),
    "rcml": ("RCMLClassifier", toys.table_toy, {"hidden": (6,)}),
    "edl": ("EDLClassifier", toys.table_toy, {}),
    "tmc": ("TMCClassifier", toys.table_toy, {}),
    "etmc": ("ETMCClassifier", toys.missing_toy, {}),
    "ccml": ("CCMLClassifier", toys.table_toy, {}),
}


def write_models() -> list[str]:
    """Write the model files that are not there yet; those that are stay as they were written."""
    written = []
    for name, (kind, toy, changes) in SAVED.items():
        path = MODELS / f"{name}.rcml"
        if path.exists():
            continue
        with one_thread():
            fitted(getattr(estimators, kind), toy(), regression=False, **changes).save(path)
        written.append(name)
    return written


def _model_case(name: str) -> dict[str, Any]:
    with one_thread():
        model = rcml_misa.load(MODELS / f"{name}.rcml")
        return imprint(model, SAVED[name][1]().new)


def model_cases() -> dict[str, Case]:
    return {f"model file: {name}": partial(_model_case, name) for name in SAVED}
