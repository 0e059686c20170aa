"""Types and ranges of what model files state: facts, fitted attributes, fields of objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import numpy as np
from annotated_types import Ge, Gt, Le
from pydantic import AllowInfNan, BaseModel, ConfigDict, ValidationError, create_model
from pydantic.types import StringConstraints
from sklearn.base import BaseEstimator
from torch import Tensor

from rcml_misa.calibration import Calibrator, ScaleCalibrator
from rcml_misa.exceptions import DataError, shortened
from rcml_misa.experts.expert import KernelExpert
from rcml_misa.experts.gaussians import RowGaussians
from rcml_misa.experts.laplace import LastLayerLaplace
from rcml_misa.experts.mapped_views import Columns
from rcml_misa.experts.membership import Distances, Membership
from rcml_misa.experts.ridge_experts import Lift, RidgeExperts, RidgeMember
from rcml_misa.experts.view_experts import ViewExperts
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import FeatureMap
from rcml_misa.reading.inputs import ViewReaders
from rcml_misa.reading.raw_columns import RawColumns
from rcml_misa.views import ViewKind, ViewMeans

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["check_facts", "check_state"]

Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
Weight = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
AnyFloat = Annotated[float, AllowInfNan(True)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Array = np.ndarray[Any, Any]
Texts = tuple[str, ...]

FACTS: Mapping[str, Any] = {
    "format_version": int,
    "estimator": str,
    "params": dict[str, Any],
    "attributes": dict[str, Any],
}
MORE_FACTS: Mapping[str, Any] = {
    "sha256": str,
    "versions": dict[str, str],
    "needs": dict[str, str],
    "about": dict[str, Any],
    "steps": list[Any],
    "last_step": str,
}
# a name means the same in every class; other fitted names are read by nothing
FITTED: Mapping[str, Any] = {
    **dict.fromkeys(("batch_size_", "n_features_in_", "networks_", "train_rows_"), Count),
    "validation_rows_": CountOrZero,
    "data_sha256_": Digest,
    "history_": dict[str, list[AnyFloat]],  # NaN where nothing was measured
    "target_mean_": float,
    **dict.fromkeys(("target_scale_", "temperature_", "raw_temperature_"), Positive),
    **dict.fromkeys(("power_", "penalty_"), Weight),
    "bound_": AnyFloat,  # infinite where scores have no bound
    "interval_factor_": AnyFloat,  # NaN where there were too few rows
    "share_": Share,
    "suspect_limits_": tuple[Weight, Weight],
    "kinds_": tuple[ViewKind, ...],
    **dict.fromkeys(("view_names_", "set_aside_"), Texts),
    "widths_": tuple[Count, ...],
    "view_columns_": tuple[tuple[str | int, ...] | None, ...] | None,
    **dict.fromkeys(("feature_names_in_", "classes_", "class_shares_", "worth_"), Array),
    **dict.fromkeys(("coefficients_", "intercept_", "landmark_values_", "weights_"), Array),
    **dict.fromkeys(("draws_", "stack_"), Array | None),
    "blend_": Tensor,
    "calibrator_": Calibrator | ScaleCalibrator | None,
    "columns_": Columns | dict[str, RawColumns],
    "distances_": Distances,
    "experts_": ViewExperts | RidgeExperts | None,
    "gaussians_": RowGaussians,
    "joint_": KernelExpert,
    "kernel_": str,
    "laplace_": LastLayerLaplace | None,
    "layout_": tuple[tuple[int, ...], ...],
    "lifts_": list[Lift],
    "maps_": list[ColumnMap | FeatureMap],
    "members_": list[RidgeMember],
    "membership_": Membership | None,
    "readers_": ViewReaders,
    "view_means_": ViewMeans,
    "views_": list[KernelExpert],
    "given_widths_": dict[str, Count],
    "matched_": dict[str, Texts],
}
LABELS = frozenset({"classes_", "feature_names_in_"})  # arrays that may hold texts
STRICT = ConfigDict(
    arbitrary_types_allowed=True,
    strict=True,
    allow_inf_nan=False,
    extra="ignore",
    protected_namespaces=(),
)


def check_facts(header: Mapping[str, Any]) -> None:
    """Check the names and types of a header's facts; a `DataError` for the first wrong one."""
    if unknown := sorted(set(header) - {*FACTS, *MORE_FACTS}):
        raise DataError(f"its header has an unknown fact {shortened(unknown[0], 40)!r}")
    if ("steps" in header) != ("last_step" in header):
        raise DataError("its header has steps without a last one, or a last one without others")
    present = {name: hint for name, hint in MORE_FACTS.items() if name in header}
    _check("header", _schema("header", **FACTS, **present), header)


def check_state(kind: type[Any], values: Mapping[str, Any]) -> None:
    """Check the types and ranges of an object's attributes; a `DataError` for a wrong one.

    Fields of dataclasses are what their annotations say, fitted attributes what `FITTED` says.

    Examples
    --------
    >>> check_state(Calibrator, {"exponent": 1.0, "slope": 1.0, "offset": "0"})
    ... # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rcml_misa.exceptions.DataError: its Calibrator has offset='0', where there should be a ...
    """
    for name, value in values.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "UO" and name not in LABELS:
            raise DataError(f"its {kind.__name__} has texts for {shortened(name, 40)}")
    schema = _state_schema(kind, frozenset(values))  # type: ignore[arg-type]  # a class has a hash
    _check(kind.__name__, schema, values)


@lru_cache(maxsize=256)
def _state_schema(kind: type[Any], names: frozenset[str]) -> type[BaseModel]:
    hints: dict[str, Any] = {}
    if is_dataclass(kind) and not issubclass(kind, BaseEstimator):
        annotations = get_type_hints(kind, include_extras=True)
        hints = {field.name: annotations[field.name] for field in fields(kind) if field.init}
    hints |= {name: FITTED[name] for name in sorted(names) if name in FITTED}
    return _schema(kind.__name__, **hints)


def _schema(name: str, **hints: Any) -> type[BaseModel]:
    definitions: dict[str, Any] = {key: (hint, ...) for key, hint in hints.items()}
    return create_model(name, __config__=STRICT, **definitions)


def _check(name: str, schema: type[BaseModel], values: Mapping[str, Any]) -> None:
    try:
        schema.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        raise DataError(f"its {name} {_complaint(problem)}") from None


def _complaint(problem: ErrorDetails) -> str:
    """End the sentence about a value of a wrong type or out of its range."""
    path = shortened(".".join(str(part) for part in problem["loc"]), 60)
    if problem["type"] == "missing":
        return f"has no {path}"
    value = problem["input"]
    simple = value is None or isinstance(value, bool | int | float | str)
    shown = shortened(repr(value), 40) if simple else f"a {type(value).__name__}"
    message = problem["msg"].removeprefix("Input should be ")
    return f"has {path}={shown}, where there should be {shortened(message, 80)}"
