"""Opinions of fitted estimators about rows, as frozen arrays, and their tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rcml_misa.estimators.summary import listed, mean_text, view_lines
from rcml_misa.estimators.suspicion import JOIN, Suspicion
from rcml_misa.exceptions import OptionError, nearest
from rcml_misa.opinions import Opinion, contradiction, mean_conflict
from rcml_misa.opinions.nig import NIG

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ArrayOpinion", "MultiViewOpinion", "ScoreOpinion"]

Array = NDArray[np.float64]
_Opinion = TypeVar("_Opinion")


@dataclass(frozen=True, repr=False)
class ArrayOpinion(Opinion[Array]):
    """Opinions over K classes in NumPy; see `rcml_misa.opinions.Opinion`.

    Attributes
    ----------
    evidence : ndarray of shape (..., K)
        Evidence for each class, at least 0; an opinion of zeros is vacuous.

    Examples
    --------
    >>> opinion = ArrayOpinion(np.array([[8.0, 0.0]]))
    >>> opinion.belief.tolist(), opinion.uncertainty.tolist()
    ([[0.8, 0.0]], [0.2])
    >>> opinion
    ArrayOpinion(evidence of shape (1, 2), mean 4; mean uncertainty 0.2)
    """

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(evidence of shape {self.evidence.shape}, mean "
            f"{mean_text(self.evidence)}; mean uncertainty {mean_text(self.uncertainty)})"
        )


@dataclass(frozen=True, repr=False)
class MultiViewOpinion(ArrayOpinion):
    """Opinions about n rows: fused, per view and of the shared tokens.

    The attributes of `ArrayOpinion` are those of the fused opinion.

    Attributes
    ----------
    evidence : ndarray of shape (n, K)
        Fused evidence.
    views : mapping of str to ndarray of shape (n, K)
        Evidence of each view's own opinion; none where a row lacks the view.
    shared : ndarray of shape (n, M, K)
        Evidence of the shared tokens' opinions; M = 0 for methods without them.
    conflict : ndarray of shape (n,)
        Mean degree of conflict over the pairs of views that a row has, in [0, 1].
    classes : ndarray of shape (K,), optional
        Labels; 0 .. K-1 without them.
    present : ndarray of bool of shape (n, N), optional
        Presence of each view in each row; True everywhere by default.
    calibrated : ndarray of shape (n, K), optional
        Calibrated probabilities of methods that have them.
    view_gains : ndarray of shape (n, N), optional
        Fall of the uncertainty where a view is left out, NaN where a row lacks it. Of methods with
        a `Membership` it is P_v c: the probability that this view alone does not belong to its row
        times the belief of the others, which grows from P_none c to (P_none + P_v) c.
    rest, calibrated_rest : ndarray of shape (n, K), optional
        Fused evidence without the view of largest gain, and its calibrated probabilities.
    limits : tuple of float
        Gains beyond which a view is suspected, and so clearly that it may be left out; set on rows
        that the model was not fitted on, where there were some.
    learnt : bool
        Whether the gains rest on what was learnt from self-made mismatches; else, of two views,
        the liar can't be told from the honest one.
    familiarity : ndarray of shape (n,), optional
        Near 0 for a row whose every view is far from the train rows.

    Examples
    --------
    >>> first, second = np.array([[8.0, 0.0]]), np.array([[0.0, 8.0]])
    >>> opinion = MultiViewOpinion(
    ...     np.array([[3.0, 3.0]]), {"a": first, "b": second}, np.empty((1, 0, 2)), np.ones(1))
    >>> opinion.uncertainty.tolist(), opinion.of("a").belief.tolist()
    ([0.25], [[0.8, 0.0]])
    >>> opinion.pairwise_conflict[0].round(3).tolist()
    [[0.0, 0.512], [0.512, 0.0]]
    >>> opinion.most_conflicting.tolist()
    ['a|b']
    """

    views: Mapping[str, Array]
    shared: Array
    conflict: Array
    classes: NDArray[Any] | None = None
    present: NDArray[np.bool_] | None = None
    calibrated: Array | None = None
    view_gains: Array | None = None
    rest: Array | None = None
    calibrated_rest: Array | None = None
    limits: tuple[float, float] = (np.inf, np.inf)
    learnt: bool = False
    familiarity: Array | None = None

    def __repr__(self) -> str:
        rows, classes = self.evidence.shape
        largest = self.probability.max(axis=1)
        lines = [
            f"{type(self).__name__}({rows} rows, {classes} classes, {len(self.views)} views, "
            f"{self.shared.shape[1]} shared tokens)",
            f"  classes: {listed(list(range(classes) if self.classes is None else self.classes))}",
            f"  mean uncertainty {mean_text(self.uncertainty)}, mean conflict "
            f"{mean_text(self.conflict)}, mean of the largest probability {mean_text(largest)}"
            + ("" if self.calibrated is None else ", calibrated"),
            *view_lines({name: self.of(name).uncertainty for name in self.views}, "uncertainty"),
        ]
        if self.view_gains is not None:
            lines.append(f"  rows with a suspect: {np.count_nonzero(self.suspect != '')}")
        return "\n".join(lines)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join the opinions about several blocks of rows."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        joined: dict[str, Any] = {
            "views": {name: np.concatenate([p.views[name] for p in parts]) for name in first.views},
            **{name: getattr(first, name) for name in ("classes", "limits", "learnt")},
        }
        for member in fields(cls):
            if member.name not in joined:
                pieces = [getattr(part, member.name) for part in parts]
                joined[member.name] = None if pieces[0] is None else np.concatenate(pieces)
        return cls(**joined)

    @property
    def probability(self) -> Array:
        """Probabilities as `predict_proba` returns them, (n, K): calibrated, if the method does."""
        return self.projected_probability if self.calibrated is None else self.calibrated

    @property
    def predicted(self) -> NDArray[Any]:
        """Most probable class of each row: its label, or its number without `classes`."""
        return self._labels(self.probability)

    @property
    def tokens(self) -> dict[str, ArrayOpinion]:
        """Opinions by kind of token: ``"private"`` (n, N, K), one per view, ``"shared"`` (n, M, K).

        For methods without tokens the private ones are the views' own opinions.
        """
        return {"private": ArrayOpinion(self._private), "shared": ArrayOpinion(self.shared)}

    def of(self, view: str) -> ArrayOpinion:
        """Return the opinion of one view, (n, K); vacuous where a row lacks it.

        Raises
        ------
        OptionError
            If there is no such view.
        """
        return ArrayOpinion(_view(self.views, view))

    @property
    def pairwise_conflict(self) -> Array:
        """Degree of conflict of every pair of views, (n, N, N); 0 where a row lacks one of them."""
        private = ArrayOpinion(self._private)
        p, certainty = private.projected_probability, 1 - private.uncertainty
        degrees = np.zeros((len(p), p.shape[1], p.shape[1]))
        for i in range(1, p.shape[1]):  # no array has all pairs and classes
            own, weight = p[:, i : i + 1], certainty[:, i : i + 1]
            pairs = contradiction(own, p[:, :i], weight, certainty[:, :i])
            degrees[:, i, :i] = degrees[:, :i, i] = pairs
        return degrees

    @property
    def most_conflicting(self) -> NDArray[np.str_]:
        """Names of the two views in greatest conflict, such as ``face|voice``, of shape (n,).

        Empty where no two views are in conflict at all.
        """
        names, degrees = list(self.views), self.pairwise_conflict
        if len(names) < 2:
            return np.full(len(degrees), "")
        first, second = np.triu_indices(len(names), k=1)
        pairs = np.array([names[i] + JOIN + names[j] for i, j in zip(first, second, strict=True)])
        upper = degrees[:, first, second]
        return np.where(upper.max(axis=1) > 0, pairs[upper.argmax(axis=1)], "")

    @property
    def suspicion(self) -> Suspicion:
        """Gains, limits and names of the views that are suspected."""
        return Suspicion.of(self, rows=len(self.evidence))

    @property
    def suspect_gain(self) -> Array:
        """Largest of a row's `view_gains`, (n,); 0 where a row has one view, or none is given."""
        return self.suspicion.gain

    @property
    def suspect(self) -> NDArray[np.str_]:
        """Name of the view that does not seem to belong to its row, (n,), ``""`` for none.

        Where it can't be told which of two views it is, both names; see `Suspicion.suspect`.
        """
        return self.suspicion.suspect

    @property
    def without_suspect(self) -> Self:
        """Opinions that follow the other views in rows with one clear suspect.

        The suspect counts as missing there; other rows, the gains and the suspects stay as they
        are.
        """
        suspicion = self.suspicion
        clear = suspicion.clear
        if self.rest is None or not clear.any():
            return self
        calibrated = self.calibrated
        if calibrated is not None and self.calibrated_rest is not None:
            calibrated = np.where(clear[:, None], self.calibrated_rest, calibrated)
        private = self._private
        present = np.ones(private.shape[:2], bool) if self.present is None else self.present.copy()
        present[np.flatnonzero(clear), suspicion.view[clear]] = False
        private = np.where(present[:, :, None], private, 0)
        conflict = mean_conflict(torch.from_numpy(private), torch.tensor(present)).numpy()
        return replace(
            self,
            evidence=np.where(clear[:, None], self.rest, self.evidence),
            calibrated=calibrated,
            views=dict(zip(self.views, private.swapaxes(0, 1), strict=True)),
            conflict=np.where(clear, conflict, self.conflict),
            present=present,
        )

    def to_frame(self, *, per_view: bool = True) -> pd.DataFrame:
        """Lay the opinions out as a table, a row for each row.

        Parameters
        ----------
        per_view : bool
            Columns of each view's own class, belief in it, uncertainty and gain; without class,
            belief and gain where a row lacks the view.

        Returns
        -------
        pandas.DataFrame
            Columns ``class``, ``probability``, ``uncertainty``, ``conflict``,
            ``conflicting_views``, of methods that have them ``suspect`` and ``suspect_gain``, and
            per view ``view__class``, ``view__belief``, ``view__uncertainty`` and, of the same
            methods, ``view__gain``.

        Examples
        --------
        >>> evidence = np.array([[8.0, 0.0]])
        >>> opinion = MultiViewOpinion(evidence, {"a": evidence}, np.empty((1, 0, 2)), np.zeros(1))
        >>> opinion.to_frame().columns.tolist()[-3:]
        ['a__class', 'a__belief', 'a__uncertainty']
        """
        import pandas as pd

        rows, best = np.arange(len(self.evidence)), self.probability.argmax(axis=1)
        columns: dict[str, Any] = {
            "class": self.predicted,
            "probability": self.probability[rows, best],
            "uncertainty": self.uncertainty,
            "conflict": self.conflict,
            "conflicting_views": self.most_conflicting,
        }
        if self.view_gains is not None:
            columns |= {"suspect": self.suspect, "suspect_gain": self.suspect_gain}
        for number, name in enumerate(self.views if per_view else ()):
            own = self.of(name)
            present = np.ones(len(rows), bool) if self.present is None else self.present[:, number]
            label = self._labels(own.evidence).astype(object)
            label[~present] = None
            columns[f"{name}__class"] = label
            columns[f"{name}__belief"] = np.where(present, own.belief.max(axis=1), np.nan)
            columns[f"{name}__uncertainty"] = own.uncertainty
            if self.view_gains is not None:
                columns[f"{name}__gain"] = self.view_gains[:, number]
        return pd.DataFrame(columns)

    @property
    def _private(self) -> Array:
        if not self.views:  # methods that read all columns at once
            return self.shared[:, :0]
        return np.stack(list(self.views.values()), axis=1)

    def _labels(self, evidence: Array) -> NDArray[Any]:
        best = evidence.argmax(axis=1)
        return best if self.classes is None else np.asarray(self.classes[best])


def _view(views: Mapping[str, _Opinion], name: str) -> _Opinion:
    """Look a view's opinion up by its name."""
    if name not in views:
        raise OptionError(f"there is no view {name!r}; {nearest(name, views)}")
    return views[name]


@dataclass(frozen=True, repr=False)
class ScoreOpinion:
    """Opinions about the scores of n rows; see `rcml_misa.opinions.nig.NIG`.

    Attributes
    ----------
    gamma, nu, alpha, beta : ndarray of shape (n,)
        Parameters of the fused opinion, in the target's unit.
    views : mapping of str to ScoreOpinion
        Each view's own opinion; empty for these themselves.
    view_gains : ndarray of shape (n, N), optional
        Gains of the views' own opinions by `rcml_misa.opinions.nig.nig_gains`: the fall of the
        logarithm of their summed scale, were the view to say the score of the other views; NaN
        where a row lacks it.
    rest : ScoreOpinion, optional
        Sum of the own opinions of all views but the one of largest gain.
    limits, learnt
        See `MultiViewOpinion`.

    Examples
    --------
    >>> opinion = ScoreOpinion(*np.array([[2.0], [4.0], [3.0], [6.0]]), views={})
    >>> opinion.score.tolist(), opinion.relative_epistemic.tolist()
    ([2.0], [0.5])
    """

    gamma: Array
    nu: Array
    alpha: Array
    beta: Array
    views: Mapping[str, ScoreOpinion]
    view_gains: Array | None = None
    rest: ScoreOpinion | None = None
    limits: tuple[float, float] = (np.inf, np.inf)
    learnt: bool = False

    def __repr__(self) -> str:
        lines = [
            f"{type(self).__name__}({len(self.gamma)} rows, {len(self.views)} views)",
            f"  mean score {mean_text(self.score)}, mean scale {mean_text(self.scale)}, "
            f"mean deviation {mean_text(self.deviation)}",
            *view_lines({name: own.scale for name, own in self.views.items()}, "scale"),
        ]
        if self.view_gains is not None:
            lines.append(f"  rows with a suspect: {np.count_nonzero(self.suspect != '')}")
        return "\n".join(lines)

    @classmethod
    def from_nig(cls, opinion: NIG, views: Mapping[str, ScoreOpinion] | None = None) -> Self:
        """Convert an opinion of tensors."""
        gamma, nu, alpha, beta = (part.double().cpu().numpy() for part in opinion)
        return cls(gamma, nu, alpha, beta, views or {})

    def of(self, view: str) -> ScoreOpinion:
        """Return one view's own opinion; no such view is an OptionError."""
        return _view(self.views, view)

    @property
    def suspicion(self) -> Suspicion:
        """Gains, limits and names of the views that are suspected."""
        return Suspicion.of(self, rows=len(self.gamma))

    @property
    def suspect_gain(self) -> Array:
        """Largest of a row's `view_gains`, (n,); 0 where a row has one view, or none is given."""
        return self.suspicion.gain

    @property
    def suspect(self) -> NDArray[np.str_]:
        """Name of the view that does not seem to belong to its row, (n,); see `Suspicion`."""
        return self.suspicion.suspect

    @property
    def without_suspect(self) -> Self:
        """Opinions that follow the other views' own in rows with one clear suspect.

        Other rows, the views' opinions, the gains and the suspects stay as they are.
        """
        clear = self.suspicion.clear
        if self.rest is None or not clear.any():
            return self
        fused = {
            name: np.where(clear, getattr(self.rest, name), getattr(self, name))
            for name in ("gamma", "nu", "alpha", "beta")
        }
        return replace(self, **fused)

    def to_frame(self, *, per_view: bool = True) -> pd.DataFrame:
        """Lay the opinions out as a table, a row for each row.

        Parameters
        ----------
        per_view : bool
            Columns of each view's own opinion and gain.

        Returns
        -------
        pandas.DataFrame
            Columns ``score``, ``scale``, ``deviation``, where there are several views ``suspect``
            and ``suspect_gain``, and per view ``view__score``, ``view__scale``,
            ``view__deviation`` and ``view__gain``.
        """
        import pandas as pd

        stated = ("score", "scale", "deviation")
        columns: dict[str, Any] = {part: getattr(self, part) for part in stated}
        if self.view_gains is not None:
            columns |= {"suspect": self.suspect, "suspect_gain": self.suspect_gain}
        for number, (name, own) in enumerate(self.views.items() if per_view else ()):
            columns |= {f"{name}__{part}": getattr(own, part) for part in stated}
            if self.view_gains is not None:
                columns[f"{name}__gain"] = self.view_gains[:, number]
        return pd.DataFrame(columns)

    def _nig(self) -> NIG:
        parts = (self.gamma, self.nu, self.alpha, self.beta)
        return NIG(*(torch.from_numpy(part) for part in parts))

    @property
    def score(self) -> Array:
        """Predicted score, gamma."""
        return self.gamma

    @property
    def scale(self) -> Array:
        """Scale of the predictive Student t of 2 alpha degrees of freedom: the uncertainty."""
        return np.asarray(self._nig().scale.numpy())

    @property
    def deviation(self) -> Array:
        """Standard deviation of the predictive Student t."""
        return np.asarray(self._nig().deviation.numpy())

    @property
    def relative_epistemic(self) -> Array:
        """nu^(-1/2), which orders rows of one model and measures nothing."""
        return np.asarray(self._nig().relative_epistemic.numpy())
