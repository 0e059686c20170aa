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
    mean_conflict,
    mutual_information,
    opinions_present,
    pairwise_conflict,
    present_share,
    total_conflict,
)
from rcml_misa.opinions.ensembles import (
    dirichlet_of_members,
    evidence_of_members,
    members_information,
)
from rcml_misa.opinions.fusion import (
    SHARED_WEIGHT,
    FusionOperator,
    ViewFusionOperator,
    agreement,
    fuse,
    fuse_mixture,
    fuse_views,
    log_shares,
    mean_mass,
    membership,
    mixture_shares,
    share_conflict,
)

__all__ = [
    "SHARED_WEIGHT",
    "FusionOperator",
    "Opinion",
    "ViewFusionOperator",
    "agreement",
    "contradiction",
    "degree_of_conflict",
    "dirichlet_of_members",
    "dissonance",
    "entropy",
    "evidence_of_members",
    "fuse",
    "fuse_mixture",
    "fuse_views",
    "keep_present",
    "log_shares",
    "mean_conflict",
    "mean_mass",
    "members_information",
    "membership",
    "mixture_shares",
    "mutual_information",
    "opinions_present",
    "pairwise_conflict",
    "present_share",
    "share_conflict",
    "total_conflict",
]
