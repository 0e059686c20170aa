"""Feature files of other projects: pickles, read without running anything of them, kept as npz."""

from rcml_misa.datasets.foreign.layout import ForeignSet
from rcml_misa.datasets.foreign.machine import read_pickle
from rcml_misa.datasets.foreign.mmsa import read_mmsa
from rcml_misa.datasets.foreign.objects import FloatList
from rcml_misa.datasets.foreign.urfunny import read_urfunny

__all__ = ["FloatList", "ForeignSet", "read_mmsa", "read_pickle", "read_urfunny"]
