"""Subjective logic as pure functions: opinions about classes (Dirichlet) and scores (`nig`).

An opinion over K classes is given by its evidence e >= 0 of shape (..., K): alpha = e + 1,
S = sum alpha, belief b = e / S, uncertainty (vacuity) u = K / S, base rates 1 / K and projected
probability p = b + u / K = alpha / S. A stack of M opinions has the shape (..., M, K).
"""

from rcml_misa.opinions.dirichlet import (
    Opinion,
    contradiction,
    degree_of_conflict,
    dissonance,
    entropy,
    keep_present,
    max_probability_uncertainty,
    mean_conflict,
    mean_present,
    mutual_information,
    opinions_present,
    pairwise_conflict,
    present_share,
    vacuity,
)
from rcml_misa.opinions.fusion import (
    SHARED_WEIGHT,
    FusionOperator,
    fuse,
    fuse_mixture,
    log_shares,
    membership,
    share_conflict,
)

__all__ = [
    "SHARED_WEIGHT",
    "FusionOperator",
    "Opinion",
    "contradiction",
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
