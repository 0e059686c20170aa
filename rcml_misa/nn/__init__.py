"""Small modules and the networks assembled from them; `forward` returns one frozen object."""

from rcml_misa.nn.misa import MISANet, MISAOutput, MISAVariant
from rcml_misa.nn.networks import (
    NotesNet,
    RCMLMISANet,
    RegressionNet,
    ScoreOpinions,
    TokenFusionOperator,
    TokenOpinions,
)
from rcml_misa.nn.peers import (
    CCMLNet,
    DecoupledOpinions,
    FuzzyNet,
    FuzzyOutput,
    PseudoViewNet,
    RCMLNet,
    ViewOpinions,
    credibility,
    decouple_evidence,
    fuse_memberships,
    fuzzy_uncertainty,
    guided_credibility,
    membership_conflict,
)
from rcml_misa.nn.tokens import AttentionMask, CollectorKind, Sharing, shares_to_evidence

__all__ = [
    "AttentionMask",
    "CCMLNet",
    "CollectorKind",
    "DecoupledOpinions",
    "FuzzyNet",
    "FuzzyOutput",
    "MISANet",
    "MISAOutput",
    "MISAVariant",
    "NotesNet",
    "PseudoViewNet",
    "RCMLMISANet",
    "RCMLNet",
    "RegressionNet",
    "ScoreOpinions",
    "Sharing",
    "TokenFusionOperator",
    "TokenOpinions",
    "ViewOpinions",
    "credibility",
    "decouple_evidence",
    "fuse_memberships",
    "fuzzy_uncertainty",
    "guided_credibility",
    "membership_conflict",
    "shares_to_evidence",
]
