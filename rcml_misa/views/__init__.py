"""Views: the tables that describe one set of samples, and how any input becomes them."""

from rcml_misa.views.arrays import ViewArray, dense
from rcml_misa.views.multiview import MultiView, ViewKind, as_multiview
from rcml_misa.views.sequences import Pooling, Sequences, Texts, refuse_sequences
from rcml_misa.views.target import check_target
from rcml_misa.views.tokens import TokenTexts

__all__ = [
    "MultiView",
    "Pooling",
    "Sequences",
    "Texts",
    "TokenTexts",
    "ViewArray",
    "ViewKind",
    "as_multiview",
    "check_target",
    "dense",
    "refuse_sequences",
]
