"""Small modules and the networks assembled from them; `forward` returns one frozen object."""

from rcml_misa.nn.attention import AttentionMask, TokenFusion, private_mask
from rcml_misa.nn.ccml import CCMLNet, DecoupledOpinions, decouple_evidence
from rcml_misa.nn.collectors import (
    CollectorKind,
    Collectors,
    EvidenceCollector,
    Sharing,
    shares_to_evidence,
)
from rcml_misa.nn.encoders import StackedLinear, SubspaceCodes, Subspaces, ViewProjection
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
from rcml_misa.nn.model import (
    RCMLMISANet,
    TokenFusionOperator,
    TokenOpinions,
    fuse_mixture,
    share_conflict,
)
from rcml_misa.nn.notes import NotesNet, NotesOutput
from rcml_misa.nn.presence import keep_present, mean_present, opinions_present, present_share
from rcml_misa.nn.pseudo import PseudoViewNet, PseudoViewOpinions
from rcml_misa.nn.rcml import RCMLNet, ViewOpinions

__all__ = [
    "AttentionMask",
    "CCMLNet",
    "CollectorKind",
    "Collectors",
    "DecoupledOpinions",
    "EvidenceCollector",
    "FuzzyNet",
    "FuzzyOutput",
    "MembershipCollector",
    "NotesNet",
    "NotesOutput",
    "PseudoViewNet",
    "PseudoViewOpinions",
    "RCMLMISANet",
    "RCMLNet",
    "Sharing",
    "StackedLinear",
    "SubspaceCodes",
    "Subspaces",
    "TokenFusion",
    "TokenFusionOperator",
    "TokenOpinions",
    "ViewOpinions",
    "ViewProjection",
    "credibility",
    "decouple_evidence",
    "fuse_memberships",
    "fuse_mixture",
    "fuzzy_uncertainty",
    "guided_credibility",
    "keep_present",
    "mean_present",
    "membership_conflict",
    "opinions_present",
    "present_share",
    "private_mask",
    "share_conflict",
    "shares_to_evidence",
]
