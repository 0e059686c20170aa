"""Feature files of other projects: pickles, read without running anything of them, kept as npz."""

from rcml_misa.datasets.foreign.machine import read_pickle
from rcml_misa.datasets.foreign.objects import FloatList
from rcml_misa.datasets.foreign.readers import read_mmsa, read_urfunny

__all__ = ["FloatList", "read_mmsa", "read_pickle", "read_urfunny"]
