"""Figures of papers, to stand beside measured ones and never among them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["PublishedFigure", "published_figures"]


@dataclass(frozen=True)
class PublishedFigure:
    """What a paper says of one method on one data set, in percent.

    Attributes
    ----------
    dataset, name : str
    method : str or None
        Name of the method here, where it is one.
    source : str
        The paper, and which epoch it reports where that is known.
    clean, clean_spread, conflict, conflict_spread : float or None
        Accuracies.
    conflict_fpr95 : float or None
        False positives among clean rows where 95 % of the conflictive ones are told.
    """

    dataset: str
    name: str
    method: str | None
    source: str
    clean: float | None = None
    clean_spread: float | None = None
    conflict: float | None = None
    conflict_spread: float | None = None
    conflict_fpr95: float | None = None

    @property
    def accuracies(self) -> str:
        """Clean and conflictive accuracy, as ``94.71 / 84.00``; ``-`` for what is not told."""
        return " / ".join("-" if x is None else f"{x:.2f}" for x in (self.clean, self.conflict))


def published_figures(*, dataset: str | None = None) -> list[PublishedFigure]:
    """All figures, or those of one data set, in the order of the file.

    Examples
    --------
    >>> found = [one for one in published_figures(dataset="PIE") if one.method == "rcml"]
    >>> found[0].name, found[0].accuracies
    ('ECML', '94.71 / 84.00')
    """
    text = files("rcml_misa.reporting").joinpath("published.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    found = []
    for entry in table["figure"]:
        facts = {key: entry[key] for key in ("name", "method", "source") if key in entry}
        for name, values in entry.items():
            if name not in facts and dataset in (None, name):
                found.append(
                    PublishedFigure(
                        dataset=name,
                        name=facts["name"],
                        method=facts.get("method"),
                        source=table["sources"][facts["source"]],
                        **values,
                    )
                )
    return found
