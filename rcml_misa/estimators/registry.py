"""The methods by name: their classes, variants and presets, and options given as text."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, get_type_hints

from rcml_misa.estimators.options import check_options, choices_of
from rcml_misa.exceptions import OptionError, nearest

__all__ = ["LEAKY", "METHODS", "MethodSpec", "Recipe", "find_method", "recipe"]

LEAKY = "paper-leaky"  # a value of `scaling` that the run carries out, not the estimator
HERE = "rcml_misa.estimators"


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """A method that can be run by name.

    Attributes
    ----------
    name, summary : str
    path : str
        ``module:Class`` of the estimator, imported when it is needed.
    params : mapping
        Parameters that make this method of the class.
    variant_parameter : str or None
        The parameter that tells the variants apart.
    variants : tuple of str
        All of them; the recommended one first.
    compared : tuple of str
        Those that run when none is named.
    presets : mapping of str to (path, params)
        Other configurations by name.
    regressor : str
        ``module:Class`` of the estimator for a regression; empty where there is none.
    regressor_variant : str
        The variant that is recommended for a regression, and runs when none is named; the same
        as for classes where it is empty.
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
        """The variant that is recommended."""
        return self.variants[0]

    def recommended(self, *, regression: bool) -> str:
        """The variant that is recommended for classes, or for a regression."""
        return (self.regressor_variant if regression else "") or self.default_variant

    def run_unnamed(self, *, regression: bool) -> tuple[str, ...]:
        """The variants that run when none is named."""
        return (self.regressor_variant,) if regression and self.regressor_variant else self.compared


_SVM = {"model": "rbf-svm", "C": 10.0}
_LDA = {"model": "lda"}
_ROOTS = {"scaling": "none", "features": "root-layernorm"}
_AVERAGE = {"combine": "average"}

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
    "extra-trees": ("extremely randomised trees on all views", {"model": "extra-trees"}),
}


#: Method name -> what it is.
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
                "notes": (f"{HERE}.notes:NotesClassifier", {"scaling": LEAKY}),
            },
        ),
        MethodSpec(
            name="rcml",
            summary="RCML (ECML), AAAI 2024",
            path=f"{HERE}.rcml:RCMLClassifier",
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
            summary="RCML-MISA's closed-form experts alone",
            path=f"{HERE}.kernel_expert:KernelExpertClassifier",
        ),
        *(
            MethodSpec(
                name=name,
                summary=summary,
                path=f"{HERE}.controls:ControlClassifier",
                params=params,
            )
            for name, (summary, params) in _CONTROLS.items()
        ),
    )
}


def find_method(name: str) -> MethodSpec:
    """Look a method up.

    Raises
    ------
    OptionError
        If there is none of that name.

    Examples
    --------
    >>> find_method("rcml").default_variant
    'mean'
    """
    if name not in METHODS:
        raise OptionError(f"there is no method {name!r}; {nearest(name, METHODS)}")
    return METHODS[name]


@dataclass(frozen=True)
class Recipe:
    """One configured variant of a method, ready to be built for a seed.

    Attributes
    ----------
    method, variant : str
    default : bool
        Whether it is the method's recommended configuration.
    path : str
    params : mapping
    leaky : bool
        Whether the data are scaled on all rows first, as in the paper.
    keep : tuple of str
        The views that are used; empty for all.
    """

    method: str
    variant: str
    default: bool
    path: str
    params: Mapping[str, Any]
    leaky: bool
    keep: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Method and variant, the latter where there are several."""
        return self.method if self.variant == "-" else f"{self.method} {self.variant}"

    def build(self, seed: int) -> Any:
        """Make the estimator; `seed` becomes its `random_state`."""
        return _load(self.path)(**self.params, random_state=seed)


def _regressor(spec: MethodSpec, preset: str) -> str:
    if not spec.regressor:
        able = ", ".join(one.name for one in METHODS.values() if one.regressor)
        raise OptionError(f"method {spec.name} has no regression; choose from {able}.")
    if preset != "default":
        raise OptionError(f"preset {preset!r} of {spec.name} is for classes; leave it out.")
    return spec.regressor


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _parse(key: str, text: str, annotation: Any, default: Any) -> Any:
    """Turn the text of ``key=text`` into a value of the parameter's kind."""
    choices = choices_of(annotation)
    if key == "scaling":
        choices = (*choices, LEAKY)
    if choices:
        if text not in choices:
            raise OptionError(f"{key}={text} does not exist; {nearest(text, map(str, choices))}")
        return text
    if text.lower() in ("none", "null"):
        return None
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
        raise OptionError(f"{key}={text} is not a {kind}; the default is {default}.") from None
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
) -> Recipe:
    """Configure one variant of a method from names and ``key=value`` texts.

    Raises
    ------
    OptionError
        If a name, key or value does not exist; the nearest ones are named.

    Examples
    --------
    >>> recipe("rcml", options=["epochs=3", "scaling=paper-leaky"]).params["epochs"]
    3
    """
    spec = find_method(method)
    path, params = _regressor(spec, preset) if regression else spec.path, dict(spec.params)
    if preset != "default" and preset not in spec.presets:
        known = nearest(preset, {"default", *spec.presets})
        raise OptionError(f"method {method} has no preset {preset!r}; {known}")
    if preset in spec.presets and not regression:
        path, given = spec.presets[preset]
        params |= given
    estimator = _load(path)
    known_params = inspect.signature(estimator).parameters
    hints = get_type_hints(estimator.__init__)
    settable = [key for key in known_params if key not in ("views", "random_state")]
    overrides: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals:
            raise OptionError(f"--set {option} has no value; write it as key=value.")
        if key not in settable:
            raise OptionError(f"method {method} has no option {key!r}; {nearest(key, settable)}")
        overrides[key] = _parse(key, text, hints.get(key), known_params[key].default)
    for key, value in (("device", device), ("epochs", epochs)):
        if value is None:
            continue
        if key in settable:
            overrides[key] = value
        elif key == "epochs":
            raise OptionError(f"method {method} is not trained in epochs; leave --epochs out.")
    recommended = spec.recommended(regression=regression)
    named = overrides.get(spec.variant_parameter or "", recommended)
    chosen = named if variant is None else variant
    if chosen not in spec.variants:
        raise OptionError(
            f"method {method} has no variant {chosen!r}; {nearest(chosen, spec.variants)}"
        )
    if spec.variant_parameter is not None:
        overrides[spec.variant_parameter] = chosen
    params |= overrides
    leaky = params.get("scaling") == LEAKY
    if leaky:
        params["scaling"] = "none"
    changed = set(overrides) - {"device", spec.variant_parameter}
    default = chosen == recommended and preset == "default" and not changed
    found = Recipe(method, chosen, default, path, params, leaky)
    check_options(found.build(0))
    return found
