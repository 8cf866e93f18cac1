"""From a network to numbers that can be compared, as notebooks 10 and 11 teach it.

Read `metrics` first (how wrong a pose is), then `prediction` (what a network is given, and the one
loop that runs it), then `tables` and `report` (what is printed and kept). `published` reads the two
public releases of this method. Metrics, tables and reports need no torch, so what does is loaded
only when it is asked for.
"""

import importlib

from .metrics import (
    METRICS,
    align,
    auc,
    bootstrap_interval,
    bootstrap_means,
    head_sizes,
    is_damaged,
    joint_errors,
    mean_by_group,
    mpjpe,
    pa_mpjpe,
    pck,
    pckh,
    root_relative,
    score_items,
    sequence_errors,
)
from .report import (
    minutes_table,
    published_report,
    readme_table,
    reference_note,
    run_minutes,
    run_report,
    update_readme,
    write_poses,
    write_reference,
    write_scores,
)
from .tables import (
    PUBLISHED,
    action_rows,
    convention_rows,
    csv_table,
    joint_rows,
    latex_table,
    markdown_table,
    published_rows,
    score_rows,
)

_LAZY = {  # name: module; these load torch
    "OracleInputs": "prediction",
    "flip_mean": "prediction",
    "joint_boxes": "prediction",
    "mean_pose": "prediction",
    "oracle_inputs": "prediction",
    "predict_batches": "prediction",
    "predict_store": "prediction",
    "read_network": "prediction",
    "predict_set": "published",
    "read_published": "published",
    "score_published": "published",
}

__all__ = [
    "METRICS",
    "PUBLISHED",
    "action_rows",
    "align",
    "auc",
    "bootstrap_interval",
    "bootstrap_means",
    "convention_rows",
    "csv_table",
    "head_sizes",
    "is_damaged",
    "joint_errors",
    "joint_rows",
    "latex_table",
    "markdown_table",
    "mean_by_group",
    "minutes_table",
    "mpjpe",
    "pa_mpjpe",
    "pck",
    "pckh",
    "published_report",
    "published_rows",
    "readme_table",
    "reference_note",
    "root_relative",
    "run_minutes",
    "run_report",
    "score_items",
    "score_rows",
    "sequence_errors",
    "update_readme",
    "write_poses",
    "write_reference",
    "write_scores",
    *_LAZY,
]


def __getattr__(name):
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
