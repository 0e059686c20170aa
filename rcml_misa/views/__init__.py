"""Views: the tables that describe one set of samples, and how any input becomes them."""

from rcml_misa.views.arrays import ViewArray, dense, present_rows
from rcml_misa.views.digest import data_sha256
from rcml_misa.views.forms import as_multiview, holds_views
from rcml_misa.views.multiview import MultiView, ViewKind
from rcml_misa.views.presence import ViewMeans, with_absent_views
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
    "ViewMeans",
    "as_multiview",
    "check_target",
    "data_sha256",
    "dense",
    "holds_views",
    "present_rows",
    "refuse_sequences",
    "with_absent_views",
]
