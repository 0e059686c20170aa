"""Subjective logic over Dirichlet opinions: scores, conflict and fusion, as pure functions.

An opinion over K classes is given by its evidence e >= 0 of shape (..., K): alpha = e + 1,
S = sum alpha, belief b = e / S, uncertainty (vacuity) u = K / S, base rates 1 / K and projected
probability p = b + u / K = alpha / S. A stack of M opinions has the shape (..., M, K).
"""

from rcml_misa.opinions.fusion import FusionOperator, fuse
from rcml_misa.opinions.mixture import fuse_mixture, log_shares, membership, share_conflict
from rcml_misa.opinions.presence import (
    keep_present,
    mean_present,
    opinions_present,
    present_share,
)
from rcml_misa.opinions.scores import (
    Opinion,
    degree_of_conflict,
    dissonance,
    entropy,
    max_probability_uncertainty,
    mean_conflict,
    mutual_information,
    pairwise_conflict,
    vacuity,
)

__all__ = [
    "FusionOperator",
    "Opinion",
    "degree_of_conflict",
    "dissonance",
    "entropy",
    "fuse",
    "fuse_mixture",
    "keep_present",
    "log_shares",
    "max_probability_uncertainty",
    "mean_conflict",
    "mean_present",
    "membership",
    "mutual_information",
    "opinions_present",
    "pairwise_conflict",
    "present_share",
    "share_conflict",
    "vacuity",
]
