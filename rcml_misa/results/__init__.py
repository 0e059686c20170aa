"""Records of runs, written whole or not at all; their aggregation and statistics."""

from rcml_misa.results.records import AFTER_SCALING, LEAKS, RunRecord, plain, run_key
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
from rcml_misa.results.store import (
    RunStore,
    read_folder,
    read_record,
    record_stem,
    write_record,
)
from rcml_misa.results.summary import SummaryRow, mean_scores, summarise

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
    "read_folder",
    "read_record",
    "read_runs_csv",
    "record_stem",
    "run_key",
    "runs_csv",
    "summarise",
    "write_record",
]
