"""Splits, seeds and test copies: every one takes a generator and returns new data.

Noise and donors of the published conflictive copy act in the min-max space fitted on train rows,
whatever scaling a method uses; what is returned is in raw units again.
"""

from rcml_misa.protocols.corruptions import (
    noise_views,
    only_tables,
    scale_leaky,
    shuffled_rows,
)
from rcml_misa.protocols.evaluation_sets import EvaluationSet, conflict_views, make_test_set
from rcml_misa.protocols.plan import BEST_TEST, Protocol, partition_rows
from rcml_misa.protocols.splits import Partition, RunSeeds, spawn_seeds, split_rows

__all__ = [
    "BEST_TEST",
    "EvaluationSet",
    "Partition",
    "Protocol",
    "RunSeeds",
    "conflict_views",
    "make_test_set",
    "noise_views",
    "only_tables",
    "partition_rows",
    "scale_leaky",
    "shuffled_rows",
    "spawn_seeds",
    "split_rows",
]
