"""Laplace approximation of a softmax network's last layer, with a Kronecker-factored curvature."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

__all__ = ["LastLayerLaplace"]

Array = NDArray[np.float64]
PRECISIONS = (1e-4, 1e6)  # least and largest prior precision
GRID = np.logspace(-2, 6, 33)  # precisions that are tried on rows left out


@dataclass(frozen=True)
class LastLayerLaplace:
    """Gaussian posterior of the last layer's weights: its covariance, around the trained weights.

    Logits are z = W f for features f (D) with a constant 1 among them. The curvature of the
    negative log-likelihood, the generalised Gauss-Newton matrix sum_n L_n x f_n f_n' with
    L = diag(p) - p p', is approximated by the Kronecker product of G = sum_n L_n and of A, the
    mean of f_n f_n'; it is exact where all L_n, or all f_n, are equal. The prior of all weights is
    normal with one precision d. Logits of a row then have
    the covariance sum_ik (a_i' f)^2 / (A_i G_k + d) g_k g_k' with the eigenvalues A_i, G_k and the
    eigenvectors a_i, g_k. Build it with `fit`.

    Parameters
    ----------
    feature_axes, feature_curvature : ndarray of shape (D, D) and (D,)
        Eigenvectors, in columns, and eigenvalues of A.
    class_axes, class_curvature : ndarray of shape (K, K) and (K,)
        Those of G.
    prior_precision : float
        d.

    References
    ----------
    Kristiadi, Hein and Hennig, Being Bayesian, even just a bit, fixes overconfidence in ReLU
    networks, ICML 2020; Ritter, Botev and Barber, A scalable Laplace approximation for neural
    networks, ICLR 2018 (the factors); Daxberger et al., Laplace redux, NeurIPS 2021 (the marginal
    likelihood).

    Examples
    --------
    >>> features, p = np.array([[1.0, 1.0], [1.0, -1.0]]), np.full((2, 2), 0.5)
    >>> posterior = LastLayerLaplace.fit(features, p, np.zeros((2, 2)))
    >>> posterior.covariance(features).shape
    (2, 2, 2)
    """

    feature_axes: Array
    feature_curvature: Array
    class_axes: Array
    class_curvature: Array
    prior_precision: float

    @classmethod
    def fit(
        cls,
        features: Array,
        probability: Array,
        coefficients: Array,
        weights: Array | None = None,
        *,
        prior_precision: float | None = None,
    ) -> Self:
        """Compute the posterior from n train rows.

        Parameters
        ----------
        features : ndarray of shape (n, D)
            Inputs of the last layer, the constant 1 of its bias among them.
        probability : ndarray of shape (n, K)
            Class probabilities of the trained network.
        coefficients : ndarray of shape (K, D)
            Trained weights.
        weights : ndarray of shape (n,), optional
            Weights of the rows, of mean 1.
        prior_precision : float, optional
            Precision of the prior; by default that of the largest marginal likelihood.
        """
        rows = np.ones(len(features)) if weights is None else weights
        weighted = probability * rows[:, None]
        second_moment = (features * rows[:, None]).T @ features / rows.sum()
        curvature = np.diag(weighted.sum(axis=0)) - weighted.T @ probability
        feature_curvature, feature_axes = np.linalg.eigh(second_moment)
        class_curvature, class_axes = np.linalg.eigh(curvature)
        feature_curvature = feature_curvature.clip(min=0)  # both are positive but for rounding
        class_curvature = class_curvature.clip(min=0)
        if prior_precision is None:
            eigenvalues = np.multiply.outer(feature_curvature, class_curvature)
            prior_precision = _likeliest_precision(eigenvalues, float((coefficients**2).sum()))
        return cls(
            feature_axes, feature_curvature, class_axes, class_curvature, float(prior_precision)
        )

    def best_precision(
        self,
        logits: Array,
        features: Array,
        draws: Array,
        codes: NDArray[np.int64],
        weights: Array | None = None,
    ) -> float:
        """Find the prior precision of the least negative log-likelihood of rows left out of `fit`.

        Parameters
        ----------
        logits, features, draws : ndarray of shape (n, K), (n, D) and (T, K)
            See `sample`.
        codes : ndarray of int, shape (n,)
            Class numbers of the rows.
        weights : ndarray of shape (n,), optional
            Weights of the rows.

        Returns
        -------
        float
            The best of 33 precisions from .01 to a million, four in each power of ten.
        """
        losses = []
        for precision in GRID:
            samples = replace(self, prior_precision=precision).sample(logits, features, draws)
            own = log_softmax(samples, axis=-1)[np.arange(len(codes)), :, codes]
            losses.append(-np.average(logsumexp(own, axis=1), weights=weights))
        return float(GRID[np.argmin(losses)])

    def _variances(self, features: Array) -> Array:
        """Variances of a row's logits along the class axes, (n, D) to (n, K)."""
        eigenvalues = np.multiply.outer(self.feature_curvature, self.class_curvature)
        precision = eigenvalues + self.prior_precision
        return np.asarray((features @ self.feature_axes) ** 2 @ (1 / precision))

    def covariance(self, features: Array) -> Array:
        """Compute the covariance of the logits of rows, (n, D) to (n, K, K)."""
        axes = self.class_axes
        return np.asarray((axes * self._variances(features)[:, None]) @ axes.T)

    def sample(self, logits: Array, features: Array, draws: Array) -> Array:
        """Turn standard normal draws (T, K), the same for all rows, into logits (n, T, K).

        `logits` (n, K) are the trained network's, `features` (n, D) the inputs of its last layer.
        """
        spread = np.sqrt(self._variances(features))[:, None] * draws
        return np.asarray(logits[:, None] + spread @ self.class_axes.T)


def _likeliest_precision(eigenvalues: Array, square: float) -> float:
    """Find the prior precision d of the largest marginal likelihood.

    Of P weights, whose sum of squares is `square`, with the `eigenvalues` h of the curvature, its
    logarithm is (P log d - d square - sum log(h + d)) / 2 and what does not depend on d.
    """

    def loss(log_precision: float) -> float:
        precision = np.exp(log_precision)
        # log(h + d) - log d, without a difference of large sums
        return float(np.log1p(eigenvalues / precision).sum() + precision * square)

    low, high = np.log(PRECISIONS)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))
