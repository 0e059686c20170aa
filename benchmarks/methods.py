"""Forms of RCML-MISA and the peers whose costs are compared."""

from __future__ import annotations

from typing import Any

__all__ = ["OURS", "PEERS", "build", "reads_views"]

#: Forms of RCML-MISA: method and options of the registry.
OURS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rcml-misa": ("rcml-misa", ()),
    "expert=ridge": ("rcml-misa", ("expert=ridge",)),
    "expert=none": ("rcml-misa", ("expert=none",)),
    "kernel-expert": ("kernel-expert", ()),
    "ridge-expert": ("ridge-expert", ()),
}
PEERS = ("rcml", "mlp", "hist-gradient-boosting", "lightgbm", "rbf-svm")


def reads_views(method: str) -> bool:
    """Whether a method reads a `MultiView`, not all columns side by side."""
    return method in OURS or method == "rcml"


def build(method: str) -> Any:
    """Make an estimator, and import what it needs."""
    if reads_views(method):
        from rcml_misa.estimators.registry import recipe

        name, options = OURS.get(method, (method, ()))
        device: Any = "cpu" if name in ("rcml-misa", "rcml") else None
        return recipe(name, options=options, device=device).build(0)
    if method == "lightgbm":
        from lightgbm import LGBMClassifier

        return LGBMClassifier(n_jobs=1, random_state=0, verbose=-1)
    if method == "hist-gradient-boosting":
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(random_state=0)
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(
        StandardScaler(), {"mlp": MLPClassifier(random_state=0), "rbf-svm": SVC(C=10.0)}[method]
    )
