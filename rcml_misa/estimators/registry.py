"""Methods by name, options given as text, and model files of exported estimators."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from inspect import isabstract, signature
from pathlib import Path
from typing import Any, get_args, get_type_hints

from rcml_misa.estimators.foreign import build_foreign, importable, load_object
from rcml_misa.estimators.pipeline import ViewPipeline
from rcml_misa.exceptions import OptionError, nearest, shortened
from rcml_misa.options import check_options, choices_of
from rcml_misa.persistence import read_model
from rcml_misa.training import Device

__all__ = [
    "LEAKY",
    "METHODS",
    "MethodSpec",
    "Recipe",
    "check_weights",
    "exported_estimators",
    "find_method",
    "is_foreign",
    "load",
    "load_with_header",
    "recipe",
]

LEAKY = "paper-leaky"  # a value of `scaling` that the run carries out, not the estimator
HERE = "rcml_misa.estimators"
# module and name, each of identifiers with dots between them, as Python imports them
_PATH = re.compile(r"(?!\d)\w+(\.(?!\d)\w+){0,30}:(?!\d)\w+(\.(?!\d)\w+){0,30}")
_CONTROL = f"{HERE}.controls:ControlClassifier"


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """A method that can be run by name.

    Attributes
    ----------
    path, regressor : str
        ``module:Class`` of the estimator for classes and for scores (empty where there is none).
    params : mapping
        Parameters that make this method of the class.
    variant_parameter : str or None
        Parameter that distinguishes the variants.
    variants, compared : tuple of str
        All variants, the recommended one first; those that run when none is named.
    presets : mapping of str to (path, params)
        Other configurations by name.
    regressor_variant : str
        Recommended and only unnamed variant of a regression; empty where it is that for classes.
    """

    name: str
    summary: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    variant_parameter: str | None = None
    variants: tuple[str, ...] = ("-",)
    compared: tuple[str, ...] = ("-",)
    presets: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    regressor: str = ""
    regressor_variant: str = ""

    @property
    def default_variant(self) -> str:
        """Recommended variant."""
        return self.variants[0]

    def recommended(self, *, regression: bool) -> str:
        """Name the variant that is recommended for classes, or for a regression."""
        return (self.regressor_variant if regression else "") or self.default_variant

    def run_unnamed(self, *, regression: bool) -> tuple[str, ...]:
        """List the variants that run when none is named."""
        return (self.regressor_variant,) if regression and self.regressor_variant else self.compared


_R_EDL = {"form": "projected", "prior_weight": 0.1}
_RE_EDL = {"form": "projected", "prior_weight": 0.8, "kl_weight": 0.0}

# name -> class, summary and parameters of the peers that have no variants
_PEERS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "r-edl": ("EDLClassifier", "R-EDL, ICLR 2024, on all views' columns", _R_EDL),
    "re-edl": ("EDLClassifier", "Re-EDL, TPAMI 2025, on all views' columns", _RE_EDL),
    "tmc": ("TMCClassifier", "TMC, ICLR 2021", {}),
    "etmc": ("ETMCClassifier", "ETMC, TPAMI 2022: TMC with a pseudo-view", {}),
    "ccml": ("CCMLClassifier", "CCML, ACM MM 2024", {}),
    "fuml": ("FUMLClassifier", "FUML, ICML 2025", {}),
}

# name -> class, summary and parameters of the softmax networks on all views' columns
_SOFTMAX: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "softmax": ("SoftmaxClassifier", "a softmax network on all views' columns", {}),
    "deep-ensemble": (
        "SoftmaxClassifier",
        "deep ensemble of softmax networks, NeurIPS 2017",
        {"posterior": "ensemble"},
    ),
    "mc-dropout": (
        "SoftmaxClassifier",
        "softmax network with MC dropout, ICML 2016",
        {"posterior": "mc-dropout"},
    ),
    "laplace": (
        "SoftmaxClassifier",
        "softmax network with a last-layer Laplace posterior, ICML 2020",
        {"posterior": "laplace"},
    ),
    "ensemble-dirichlet": (
        "EnsembleDirichletClassifier",
        "the Dirichlet opinion of a deep ensemble's moments",
        {},
    ),
}

_SVM = {"model": "rbf-svm", "C": 10.0}
_LDA = {"model": "lda"}
_ROOTS = {"scaling": "none", "features": "root-layernorm"}
_AVERAGE = {"combine": "average"}
_BEST = {"combine": "best"}

# name -> summary and parameters of ControlClassifier
_CONTROLS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "logistic-regression": ("multinomial logistic regression on all views", {}),
    "logistic-regression-per-view": ("one logistic regression per view, averaged", _AVERAGE),
    "rbf-svm": ("Gaussian SVM on all views", _SVM),
    "rbf-svm-roots": ("Gaussian SVM on signed square roots of all views", _SVM | _ROOTS),
    "rbf-svm-per-view": ("one Gaussian SVM per view, averaged", _SVM | _AVERAGE),
    "lda": ("shrinkage LDA on all views", _LDA),
    "lda-roots": ("shrinkage LDA on signed square roots of all views", _LDA | _ROOTS),
    "lda-per-view": ("one shrinkage LDA per view, averaged", _LDA | _AVERAGE),
    "lda-roots-per-view": (
        "one shrinkage LDA per view on signed square roots, averaged",
        _LDA | _ROOTS | _AVERAGE,
    ),
    "rbf-svm-best-view": ("Gaussian SVM on the best view by cross-validation", _SVM | _BEST),
    "lda-best-view": ("shrinkage LDA on the best view by cross-validation", _LDA | _BEST),
    "extra-trees": ("extremely randomised trees on all views", {"model": "extra-trees"}),
    "gradient-boosting": ("boosted trees on all views", {"model": "gradient-boosting"}),
    "majority": ("the train rows' most frequent class", {"model": "majority"}),
}


#: Methods by name.
METHODS: Mapping[str, MethodSpec] = {
    spec.name: spec
    for spec in (
        MethodSpec(
            name="rcml-misa",
            summary="this package's method",
            path=f"{HERE}.rcml_misa:RCMLMISAClassifier",
            regressor=f"{HERE}.evidential_regression:RCMLMISARegressor",
            regressor_variant="tied-mean",
            variant_parameter="collectors",
            variants=("separate", "tied", "tied-mean", "private"),
            compared=("separate", "tied"),
            presets={
                "default": (f"{HERE}.rcml_misa:RCMLMISAClassifier", {}),
                "notes": (f"{HERE}.published:NotesClassifier", {"scaling": LEAKY}),
            },
        ),
        MethodSpec(
            name="rcml",
            summary="RCML (ECML), AAAI 2024",
            path=f"{HERE}.published:RCMLClassifier",
            variant_parameter="fusion",
            variants=("mean", "pairwise", "geometric", "cumulative", "dempster"),
            compared=("mean",),
        ),
        MethodSpec(
            name="misa",
            summary="MISA, ACM MM 2020, for classes and for scores",
            path=f"{HERE}.misa:MISAClassifier",
            regressor=f"{HERE}.misa:MISARegressor",
            variant_parameter="variant",
            variants=("full", "base", "inv", "sFusion", "iFusion"),
            compared=("full",),
        ),
        MethodSpec(
            name="kernel-expert",
            summary="RCML-MISA's closed-form kernel members alone",
            path=f"{HERE}.closed_form:KernelExpertClassifier",
        ),
        MethodSpec(
            name="ridge-expert",
            summary="RCML-MISA's closed-form ridge members alone",
            path=f"{HERE}.closed_form:RidgeExpertClassifier",
        ),
        MethodSpec(
            name="edl",
            summary="EDL, NeurIPS 2018, on all views' columns",
            path=f"{HERE}.peers:EDLClassifier",
            variant_parameter="form",
            variants=("digamma", "log", "mse"),
            compared=("digamma",),
        ),
        *(
            MethodSpec(name=name, summary=summary, path=f"{HERE}.peers:{kind}", params=params)
            for name, (kind, summary, params) in _PEERS.items()
        ),
        MethodSpec(
            name="bml",
            summary="BML, CVPR 2026: views weighed by learnt reliabilities",
            path=f"{HERE}.bml:BMLClassifier",
        ),
        *(
            MethodSpec(name=name, summary=summary, path=f"{HERE}.softmax:{kind}", params=params)
            for name, (kind, summary, params) in _SOFTMAX.items()
        ),
        *(
            MethodSpec(name=name, summary=summary, path=_CONTROL, params=params)
            for name, (summary, params) in _CONTROLS.items()
        ),
    )
}


def exported_estimators() -> dict[str, type[Any]]:
    """Import the concrete estimators that `rcml_misa.estimators` exports, by name."""
    module = import_module(HERE)
    kinds = {name: getattr(module, name) for name in module.__all__}
    return {
        name: kind
        for name, kind in kinds.items()
        if hasattr(kind, "fit") and not isabstract(kind) and not issubclass(kind, ViewPipeline)
    }


def find_method(name: str) -> MethodSpec:
    """Look a method up; ``module:name`` is the path to the user's own scikit-learn classifier.

    No method of that name is an OptionError.

    Examples
    --------
    >>> find_method("rcml").default_variant
    'mean'
    """
    if name in METHODS:
        return METHODS[name]
    if _PATH.fullmatch(name):
        return MethodSpec(name=name, summary="given by its path", path=name)
    way_out = "write it as my.module:MyClassifier." if ":" in name else nearest(name, METHODS)
    raise OptionError(f"there is no method {shortened(name, 60)!r}; {way_out}")


def is_foreign(method: str) -> bool:
    """Tell whether a method is the path to code, which `recipe` imports and so runs.

    Examples
    --------
    >>> is_foreign("rcml"), is_foreign("my.module:MyClassifier")
    (False, True)
    """
    return find_method(method).name not in METHODS


@dataclass(frozen=True)
class Recipe:
    """One configured variant of a method, ready to be built for a seed.

    Attributes
    ----------
    default : bool
        Whether it is the method's recommended configuration.
    leaky : bool
        Whether the data are scaled on all rows first, as in the paper.
    keep : tuple of str
        Views that are used; empty for all.
    foreign : bool
        Whether it is the user's own classifier, given by its path.
    code : str
        Folder that the module of a foreign method may be in, beside those that Python knows;
        empty for none. Any process that builds the method looks there too.
    """

    method: str
    variant: str
    default: bool
    path: str
    params: Mapping[str, Any]
    leaky: bool
    keep: tuple[str, ...] = ()
    foreign: bool = False
    code: str = ""

    @property
    def label(self) -> str:
        """Method and variant, the latter where there are several."""
        return self.method if self.variant == "-" else f"{self.method} {self.variant}"

    def build(self, seed: int) -> Any:
        """Make the estimator; `seed` becomes its `random_state`."""
        if self.foreign:
            importable(self.code)
            return build_foreign(self.path, self.params, seed)
        return load_object(self.path)(**self.params, random_state=seed)


def check_weights(estimator: Any, *, method: str) -> None:
    """Refuse with an OptionError, before a training, a method that can't weigh rows.

    Examples
    --------
    >>> check_weights(recipe("majority").build(0), method="majority")
    >>> check_weights(recipe("lda").build(0), method="lda")
    Traceback (most recent call last):
    rcml_misa.exceptions.OptionError: method lda takes no weights of rows; leave --weight-column ...
    """
    from sklearn.utils.validation import has_fit_parameter

    takes = has_fit_parameter(estimator, "sample_weight")
    if not (takes and getattr(estimator, "_takes_weights", True)):
        raise OptionError(
            f"method {method} takes no weights of rows; leave --weight-column out, or choose a "
            "method whose fit takes sample_weight, such as rcml-misa for classes."
        )


def _regressor(spec: MethodSpec, preset: str) -> str:
    if not spec.regressor:
        able = ", ".join(name for name, other in METHODS.items() if other.regressor)
        raise OptionError(f"method {spec.name} has no regression; choose from {able}.")
    if preset != "default":
        raise OptionError(f"preset {preset!r} of {spec.name} is for classes; leave it out.")
    return spec.regressor


def _parse(key: str, text: str, annotation: Any, default: Any) -> Any:
    """Turn the text of ``key=text`` into a value of the parameter's kind."""
    choices, shown = choices_of(annotation), shortened(text, 80)
    if key == "scaling" and choices:
        choices = (*choices, LEAKY)
    if choices:
        if text not in choices:
            raise OptionError(f"{key}={shown} does not exist; {nearest(text, map(str, choices))}")
        return text
    if text.lower() in ("none", "null"):
        return None
    if any(text in choices_of(part) for part in get_args(annotation)):
        return text
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if isinstance(default, tuple) or "tuple" in str(annotation):
            return tuple(_number(part) for part in text.split(",") if part)
        if isinstance(default, int) or "int" in str(annotation):
            return int(text)
        if isinstance(default, float) or "float" in str(annotation):
            return float(text)
    except (KeyError, ValueError):
        kind = type(default).__name__ if default is not None else "number"
        raise OptionError(f"{key}={shown} is not a {kind}; the default is {default}.") from None
    if default is None and annotation is None:  # a foreign class has no annotations
        with suppress(ValueError):
            return _number(text)
    return text


def _number(text: str) -> int | float:
    return float(text) if "." in text or "e" in text.lower() else int(text)


def recipe(
    method: str,
    *,
    variant: str | None = None,
    preset: str = "default",
    options: Sequence[str] = (),
    device: str | None = None,
    epochs: int | None = None,
    regression: bool = False,
    code: str = "",
) -> Recipe:
    """Configure one variant of a method from names and ``key=value`` texts.

    A name, key or value that does not exist is an OptionError, which names the nearest ones. A
    method ``module:name`` is imported, which runs the module's code; `code` names a folder that the
    module may be in.

    Examples
    --------
    >>> recipe("rcml", options=["epochs=3", "scaling=paper-leaky"]).params["epochs"]
    3
    """
    spec, foreign = find_method(method), is_foreign(method)
    if foreign:
        importable(code)
    path, params = _regressor(spec, preset) if regression else spec.path, dict(spec.params)
    if preset != "default" and preset not in spec.presets:
        others = nearest(preset, {"default", *spec.presets})
        raise OptionError(f"method {method} has no preset {shortened(preset, 60)!r}; {others}")
    if preset in spec.presets and not regression:
        path, given = spec.presets[preset]
        params |= given
    overrides = _overrides(method, path, options, {"device": device, "epochs": epochs})
    recommended = spec.recommended(regression=regression)
    if variant is None:
        variant = overrides.get(spec.variant_parameter or "", recommended)
    if variant not in spec.variants:
        others = nearest(variant, spec.variants)
        raise OptionError(f"method {method} has no variant {shortened(variant, 60)!r}; {others}")
    if spec.variant_parameter is not None:
        overrides[spec.variant_parameter] = variant
    params |= overrides
    leaky = params.get("scaling") == LEAKY
    if leaky:
        params["scaling"] = "none"
    changed = set(overrides) - {"device", spec.variant_parameter}
    default = variant == recommended and preset == "default" and not changed
    folder = code if foreign else ""
    configured = Recipe(method, variant, default, path, params, leaky, foreign=foreign, code=folder)
    estimator = configured.build(0)
    if not foreign:
        check_options(estimator)
    return configured


def _overrides(
    method: str, path: str, options: Sequence[str], general: Mapping[str, Any]
) -> dict[str, Any]:
    """Parse ``key=value`` texts, and the options that not every method has."""
    hints: dict[str, Any] = {}
    if method in METHODS:
        kind = load_object(path)
        defaults = {each.name: each.default for each in signature(kind).parameters.values()}
        hints = get_type_hints(kind.__init__)
    else:
        estimator = build_foreign(path, {}, None)
        defaults = getattr(estimator, "estimator", estimator).get_params()
    settable = [key for key in defaults if key.rpartition("__")[2] not in ("views", "random_state")]
    overrides: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals:
            raise OptionError(f"--set {shortened(option, 80)} has no value; write it as key=value.")
        if key not in settable:
            others = nearest(key, settable)
            raise OptionError(f"method {method} has no option {shortened(key, 60)!r}; {others}")
        overrides[key] = _parse(key, text, hints.get(key), defaults[key])
    for key, value in general.items():
        if value is not None and key in settable:
            overrides[key] = value
        elif value is not None and key == "epochs":
            raise OptionError(f"method {method} is not trained in epochs; leave --epochs out.")
    return overrides


def load(path: str | Path, *, device: Device | None = None) -> Any:
    """Read an estimator that `save` wrote; it predicts what it predicted then, bit for bit.

    Parameters
    ----------
    path : str or Path
    device : {"auto", "cpu", "cuda"}, optional
        Where it is to run; by default where its parameter says.

    Raises
    ------
    DataError
        If the file is missing, damaged, of a newer format version, or its tensors and its header
        do not fit.
    OptionError
        If the device, or a text model that the file refers to, is not available.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from rcml_misa import KernelExpertClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = KernelExpertClassifier(views=[2, 2]).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/iris.rcml")
    ...     again = load(f"{folder}/iris.rcml")
    >>> bool((again.predict_proba(X) == model.predict_proba(X)).all())
    True
    """
    return load_with_header(path, device=device)[0]


def load_with_header(
    path: str | Path, *, device: Device | None = None
) -> tuple[Any, dict[str, Any]]:
    """Read an estimator and the header of its file; see `load`."""
    return read_model(path, classes=exported_estimators(), pipeline=ViewPipeline, device=device)
