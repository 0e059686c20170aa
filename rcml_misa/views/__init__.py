"""Views: the tables that describe one set of samples, and how any input becomes them."""

from rcml_misa.views.arrays import ViewArray, dense, present_rows
from rcml_misa.views.digest import data_sha256
from rcml_misa.views.multiview import MultiView, ViewKind, as_multiview, holds_views
from rcml_misa.views.presence import ViewMeans, with_absent_views
from rcml_misa.views.target import check_target

__all__ = [
    "MultiView",
    "ViewArray",
    "ViewKind",
    "ViewMeans",
    "as_multiview",
    "check_target",
    "data_sha256",
    "dense",
    "holds_views",
    "present_rows",
    "with_absent_views",
]
