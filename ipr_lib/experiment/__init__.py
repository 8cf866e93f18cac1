"""The controlled comparison of notebook 08: heat maps, direct and integral regression.

Read `plan` first (which cases there are), then `run` (one case, trained and scored), then
`verdicts` (what the runs say about the paper's claims).
"""

from .plan import AXES, CONTEST, MAIN, SWEEP, Case, case_config, planned_cases
from .run import IN_REPRODUCE, compare, run_case, score_decoders
from .verdicts import (
    CLAIMS,
    VARIED,
    axis_effect,
    case_table,
    claim_table,
    crossed_interval,
    errors_by_seed,
    judge,
    signed_sum,
    sweep_table,
    write_summary,
)

__all__ = [
    "AXES",
    "CLAIMS",
    "CONTEST",
    "IN_REPRODUCE",
    "MAIN",
    "SWEEP",
    "VARIED",
    "Case",
    "axis_effect",
    "case_config",
    "case_table",
    "claim_table",
    "compare",
    "crossed_interval",
    "errors_by_seed",
    "judge",
    "planned_cases",
    "run_case",
    "score_decoders",
    "signed_sum",
    "sweep_table",
    "write_summary",
]
