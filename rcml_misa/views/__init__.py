"""Views: the tables that describe one set of samples, and the door for any input to them."""

from rcml_misa.views.alignment import ColumnNames, match_columns, match_target
from rcml_misa.views.arrays import ViewArray, dense, present_rows, refuse_huge
from rcml_misa.views.containers import opened
from rcml_misa.views.forms import (
    ViewMeans,
    as_multiview,
    check_target,
    data_sha256,
    holds_views,
    refuse_raw,
    refuse_sequences,
    row_index,
    with_absent_views,
)
from rcml_misa.views.mapped import MappedRows, is_mapped, row_slices
from rcml_misa.views.multiview import MultiView, ViewKind
from rcml_misa.views.presence import (
    ClassPresence,
    ViewPresence,
    constant_views,
    judge_presence,
    presence_by_class,
)
from rcml_misa.views.raw import RawTable
from rcml_misa.views.sequences import Pooling, Sequences, Texts, TokenTexts

__all__ = [
    "ClassPresence",
    "ColumnNames",
    "MappedRows",
    "MultiView",
    "Pooling",
    "RawTable",
    "Sequences",
    "Texts",
    "TokenTexts",
    "ViewArray",
    "ViewKind",
    "ViewMeans",
    "ViewPresence",
    "as_multiview",
    "check_target",
    "constant_views",
    "data_sha256",
    "dense",
    "holds_views",
    "is_mapped",
    "judge_presence",
    "match_columns",
    "match_target",
    "opened",
    "presence_by_class",
    "present_rows",
    "refuse_huge",
    "refuse_raw",
    "refuse_sequences",
    "row_index",
    "row_slices",
    "with_absent_views",
]
