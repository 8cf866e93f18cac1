"""From a network to numbers that can be compared, as notebooks 10 and 11 teach it.

Read `metrics` first (how wrong a pose is), then `prediction` (what a network is given, and the one
loop that runs it), then `report` (what is printed and kept). `published` reads the two public releases
of this method.
"""

from .metrics import auc, bootstrap_interval, error_of_kept, mpjpe, pa_mpjpe, pckh, score_items
from .prediction import mean_pose, oracle_inputs, predict_store
from .published import read_published, score_published
from .report import (
    PUBLISHED,
    action_rows,
    markdown_table,
    published_report,
    published_rows,
    reference_note,
    run_report,
    update_readme,
    write_reference,
    write_scores,
)

__all__ = [
    "PUBLISHED",
    "action_rows",
    "auc",
    "bootstrap_interval",
    "error_of_kept",
    "markdown_table",
    "mean_pose",
    "mpjpe",
    "oracle_inputs",
    "pa_mpjpe",
    "pckh",
    "predict_store",
    "published_report",
    "published_rows",
    "read_published",
    "reference_note",
    "run_report",
    "score_items",
    "score_published",
    "update_readme",
    "write_reference",
    "write_scores",
]
