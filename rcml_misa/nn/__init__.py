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
from rcml_misa.nn.misa import MISANet, MISAOutput
from rcml_misa.nn.model import (
    RCMLMISANet,
    TokenFusionOperator,
    TokenOpinions,
)
from rcml_misa.nn.notes import NotesNet, NotesOutput
from rcml_misa.nn.pseudo import PseudoViewNet, PseudoViewOpinions
from rcml_misa.nn.rcml import RCMLNet, ViewOpinions
from rcml_misa.nn.view_encoders import EncodedProjection, Padded, ViewEncoder

__all__ = [
    "AttentionMask",
    "CCMLNet",
    "CollectorKind",
    "Collectors",
    "DecoupledOpinions",
    "EncodedProjection",
    "EvidenceCollector",
    "FuzzyNet",
    "FuzzyOutput",
    "MISANet",
    "MISAOutput",
    "MembershipCollector",
    "NotesNet",
    "NotesOutput",
    "Padded",
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
    "ViewEncoder",
    "ViewOpinions",
    "ViewProjection",
    "credibility",
    "decouple_evidence",
    "fuse_memberships",
    "fuzzy_uncertainty",
    "guided_credibility",
    "membership_conflict",
    "private_mask",
    "shares_to_evidence",
]
