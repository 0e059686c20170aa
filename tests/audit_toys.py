"""A small data set of tables for the tests of the audit."""

from __future__ import annotations

import numpy as np

from rcml_misa.datasets import Dataset
from rcml_misa.views import MultiView


def toy(*, rows: int = 240, classes: int = 3, views: int = 2, name: str = "toy") -> Dataset:
    """Classes on overlapping Gaussians, every view with some noise of its own."""
    rng = np.random.default_rng(0)
    target = np.arange(rows) % classes
    centres = rng.normal(0, 1.5, (views, classes, 4))
    arrays = [centre[target] + rng.normal(0, 1, (rows, 4)) for centre in centres]
    return Dataset(
        name=name,
        views=MultiView({f"v{place}": array for place, array in enumerate(arrays)}),
        target=target,
        classes=tuple(map(str, range(classes))),
        source="",
        sha256="",
    )
