"""Figures and interactive views, for notebooks and saved pages.

Read `plots` first: functions that draw into matplotlib's Axes. Then read `view`, which holds what all interactive views
share, and `skeleton_view`, `volume_explorer` and `curve_explorer`, each beside its JavaScript file. The interactive views
need anywidget, of the extra `course`; they are loaded when they are asked for, so that a plot does without it.
"""

from .plots import (
    draw_actions,
    draw_image,
    draw_limbs,
    draw_pose,
    draw_training,
    limb_colours,
    use_style,
)

__all__ = [
    "CurveExplorer",
    "SkeletonView",
    "VolumeExplorer",
    "draw_actions",
    "draw_limbs",
    "draw_image",
    "draw_pose",
    "draw_training",
    "limb_colours",
    "use_style",
]


def __getattr__(name):
    if name == "SkeletonView":
        from .skeleton_view import SkeletonView

        return SkeletonView
    if name == "VolumeExplorer":
        from .volume_explorer import VolumeExplorer

        return VolumeExplorer
    if name == "CurveExplorer":
        from .curve_explorer import CurveExplorer

        return CurveExplorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
