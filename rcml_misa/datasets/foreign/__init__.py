"""Feature files of other projects: pickles, read without running anything of them."""

from rcml_misa.datasets.foreign.objects import FloatList
from rcml_misa.datasets.foreign.pickles import read_pickle

__all__ = ["FloatList", "read_pickle"]
