"""The course itself: from a Config to data, a trained network, scores and executed notebooks.

Read `pipeline` first (the main job, step by step; notebook 11 explains it), then `notebooks` and
`exercises` (how a notebook is run, the one picture that all of them follow, and where exercises
come from), `reference` (the network that comes with the repository), `tiny_sets` (the made-up MPII
and COCO of notebook 03) and `memory` (how much a computation of notebook 06 needs). What loads
torch is loaded only when it is asked for.
"""

from .exercises import check
from .notebooks import EXAMPLE_FRAME, example_folder, example_item

__all__ = [
    "EXAMPLE_FRAME",
    "check",
    "example_folder",
    "example_item",
    "shown_crops",
]


def __getattr__(name):
    if name == "shown_crops":
        from .reference import shown_crops

        return shown_crops
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
