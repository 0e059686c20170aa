"""Small modules and the networks assembled from them; `forward` returns one frozen object."""

from rcml_misa.nn.attention import AttentionMask, TokenFusion, private_mask
from rcml_misa.nn.collectors import (
    CollectorKind,
    Collectors,
    EvidenceCollector,
    Sharing,
    shares_to_evidence,
)
from rcml_misa.nn.encoders import (
    SequenceEncoderKind,
    StackedLinear,
    ViewEncoder,
)
from rcml_misa.nn.fuzzy import (
    FuzzyNet,
    FuzzyOutput,
    MembershipCollector,
    credibility,
    fuse_memberships,
    fuzzy_uncertainty,
    guided_credibility,
    membership_conflict,
)
from rcml_misa.nn.misa import MISANet, MISAOutput, MISAVariant
from rcml_misa.nn.networks import (
    RCMLMISANet,
    RegressionNet,
    ScoreOpinions,
    TokenFusionOperator,
    TokenOpinions,
)
from rcml_misa.nn.peers import (
    CCMLNet,
    DecoupledOpinions,
    NotesNet,
    PseudoViewNet,
    RCMLNet,
    ViewOpinions,
    decouple_evidence,
)

__all__ = [
    "AttentionMask",
    "CCMLNet",
    "CollectorKind",
    "Collectors",
    "DecoupledOpinions",
    "EvidenceCollector",
    "FuzzyNet",
    "FuzzyOutput",
    "MISANet",
    "MISAOutput",
    "MISAVariant",
    "MembershipCollector",
    "NotesNet",
    "PseudoViewNet",
    "RCMLMISANet",
    "RCMLNet",
    "RegressionNet",
    "ScoreOpinions",
    "SequenceEncoderKind",
    "Sharing",
    "StackedLinear",
    "TokenFusion",
    "TokenFusionOperator",
    "TokenOpinions",
    "ViewEncoder",
    "ViewOpinions",
    "credibility",
    "decouple_evidence",
    "fuse_memberships",
    "fuzzy_uncertainty",
    "guided_credibility",
    "membership_conflict",
    "private_mask",
    "shares_to_evidence",
]
