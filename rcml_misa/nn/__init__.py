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
from rcml_misa.nn.misa import MISANet, MISAOutput
from rcml_misa.nn.model import (
    RCMLMISANet,
    TokenFusionOperator,
    TokenOpinions,
    fuse_mixture,
    share_conflict,
)
from rcml_misa.nn.notes import NotesNet, NotesOutput
from rcml_misa.nn.rcml import RCMLNet, ViewOpinions
from rcml_misa.nn.view_encoders import EncodedProjection, Padded, ViewEncoder

__all__ = [
    "AttentionMask",
    "CollectorKind",
    "Collectors",
    "EncodedProjection",
    "EvidenceCollector",
    "MISANet",
    "MISAOutput",
    "NotesNet",
    "NotesOutput",
    "Padded",
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
    "fuse_mixture",
    "private_mask",
    "share_conflict",
    "shares_to_evidence",
]
