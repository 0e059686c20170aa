"""Small modules and the networks assembled from them; `forward` returns one frozen object."""

from rcml_misa.nn.attention import AttentionMask, TokenFusion, private_mask
from rcml_misa.nn.collectors import (
    CollectorKind,
    Collectors,
    EvidenceCollector,
    Sharing,
    shares_to_evidence,
)
from rcml_misa.nn.encoders import StackedLinear, SubspaceCodes, Subspaces, ViewProjection
from rcml_misa.nn.model import (
    RCMLMISANet,
    TokenFusionOperator,
    TokenOpinions,
)
from rcml_misa.nn.notes import NotesNet, NotesOutput
from rcml_misa.nn.rcml import RCMLNet, ViewOpinions

__all__ = [
    "AttentionMask",
    "CollectorKind",
    "Collectors",
    "EvidenceCollector",
    "NotesNet",
    "NotesOutput",
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
    "private_mask",
    "shares_to_evidence",
]
