"""How much each expert counts when all are multiplied: weights from leave-one-out opinions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

__all__ = ["stack_weights"]

Array = NDArray[np.float64]
STIFFNESS = 10.0  # pull towards the plain ratio, in nats per squared weight


def stack_weights(
    logs: Array, codes: NDArray[np.int64], plain: Array, weights: Array | None = None
) -> Array:
    """Weights w of M experts in softmax(sum_m w_m log p_m), fitted on rows new to the experts.

    The total cross-entropy plus 10 |w - s plain|^2 is minimised over w >= 0 and s, so that with
    few errors to learn from the weights stay in the plain ratio while their scale calibrates the
    product: experts that see the same row are not independent, and a plain product is too sure.

    Parameters
    ----------
    logs : ndarray of shape (n, M, K)
        Log-probabilities of each expert (leave-one-out, held out).
    codes : ndarray of int, shape (n,)
        Class numbers.
    plain : ndarray of shape (M,)
        Ratio of the weights without anything known.
    weights : ndarray of shape (n,), optional
        How much each row counts; 1 is usual.

    Returns
    -------
    ndarray of shape (M,)
        Not negative.

    References
    ----------
    Wolpert, Stacked generalization, Neural Networks 5, 1992; product (logarithmic) pooling:
    Genest and Zidek, Combining probability distributions, Statistical Science 1, 1986.

    Examples
    --------
    The second expert knows nothing:

    >>> good = np.log(np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]] * 9))
    >>> weights = stack_weights(
    ...     np.stack([good, np.log(np.full(good.shape, 0.5))], axis=1),
    ...     np.array([0, 1, 0, 0] * 9), np.ones(2))
    >>> bool(weights[0] > 0.3)
    True
    """
    heavy = np.ones(len(codes)) if weights is None else weights
    rows = np.arange(len(codes))
    wanted = heavy @ logs[rows, :, codes]

    def objective(values: Array) -> tuple[float, Array]:
        shares, scale = values[:-1], values[-1]
        pooled = np.tensordot(shares, logs, axes=(0, 1))
        gap = shares - scale * plain
        loss = -(heavy @ log_softmax(pooled, axis=1)[rows, codes]) + STIFFNESS * gap @ gap
        expected = heavy[:, None] * softmax(pooled, axis=1)
        slope = np.einsum("nk,nmk->m", expected, logs) - wanted
        slope += 2 * STIFFNESS * gap
        return float(loss), np.append(slope, -2 * STIFFNESS * gap @ plain)

    found = minimize(
        objective,
        np.append(0.5 * plain, 0.5),
        jac=True,
        bounds=[(0, None)] * (len(plain) + 1),
        method="L-BFGS-B",
    )
    return np.asarray(found.x[:-1])
