"""Records of runs, written whole or not at all; their aggregation and statistics."""

from rcml_misa.results.records import (
    AFTER_SCALING,
    LEAKS,
    RunRecord,
    RunStore,
    SummaryRow,
    mean_scores,
    plain,
    record_stem,
    summarise,
)
from rcml_misa.results.runs_csv import read_runs_csv, runs_csv
from rcml_misa.results.statistics import (
    LOWER_IS_BETTER,
    PairedComparison,
    Ranking,
    alike_groups,
    compare,
    holm,
    mcnemar,
    rank_methods,
)

__all__ = [
    "AFTER_SCALING",
    "LEAKS",
    "LOWER_IS_BETTER",
    "PairedComparison",
    "Ranking",
    "RunRecord",
    "RunStore",
    "SummaryRow",
    "alike_groups",
    "compare",
    "holm",
    "mcnemar",
    "mean_scores",
    "plain",
    "rank_methods",
    "read_runs_csv",
    "record_stem",
    "runs_csv",
    "summarise",
]
